"""SentencePiece, of byte pairs or a unigram model, in the hands of KerasHub's tokenizers.

**Byte pairs** know no merges but scores: neighbours merge where what they make is a token, that of
the highest score first. As for `byte_pairs`, what a kept token is made of stays with it.

**A unigram model** takes of all ways to tell a text the one of the highest sum of scores (Kudo
2018). One that is told in tokens that all stay is still there, and of fewer ways it is still the
best. How an unknown character is scored goes by the lowest score of all, and a token of the user's
by the highest: those two tokens stay.

Where bytes stand for what has no token, every text can be told. Else single characters stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from keras_hub.tokenizers import SentencePieceTokenizer

from keras_nns.errors import SurgeryError
from keras_nns.surgery.tokens.hub import HubPieces
from keras_nns.surgery.tokens.pieces import alone

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What stands for a space. Told in bytes it would be read as itself."""


class SentencePieces(HubPieces):
    """A `SentencePieceTokenizer`.

    Raises:
        SurgeryError: The library that reads its model is missing, or the model is of words or
            characters.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer) -> None:
        self._proto = _read(tokenizer.proto)
        spec, pieces = self._proto.trainer_spec, self._proto.pieces
        if spec.model_type not in (spec.UNIGRAM, spec.BPE):
            kind = spec.ModelType.Name(spec.model_type)
            raise SurgeryError(
                f"{type(tokenizer).__name__} holds a SentencePiece model of kind {kind}; only BPE "
                "and UNIGRAM can be cut."
            )
        self._unigram = spec.model_type == spec.UNIGRAM
        super().__init__(tokenizer, {n: piece.piece for n, piece in enumerate(pieces)})
        kinds = type(pieces[0])
        plain = {n: self.names[n] for n, p in enumerate(pieces) if p.type == kinds.NORMAL}
        made = {n for n, p in enumerate(pieces) if p.type in (kinds.NORMAL, kinds.UNUSED)}
        fixed = set(self.names) - made
        if spec.byte_fallback:
            fixed.update(number for number, name in plain.items() if name == _SPACE)
        else:
            fixed.update(*alone(plain))
        if self._unigram and plain:
            fixed.add(min(plain, key=lambda number: pieces[number].score))
            fixed.add(max(plain, key=lambda number: pieces[number].score))
        self.fixed = frozenset(fixed).union(self.special)
        self._numbers = {self.names[number]: number for number in made}

    def made_of(self, tokens: Iterable[int]) -> set[int]:
        """Return the tokens that stand for a while where some tokens are being made."""
        if self._unigram:
            return set()
        found: set[int] = set()
        for number in tokens:
            if self.names[number] in self._numbers:
                found.update(self._steps(self.names[number]))
        return found

    def _steps(self, token: str) -> list[int]:
        """Return all tokens of several characters on the way to one, or nothing."""
        parts, seen = list(token), []
        pieces = self._proto.pieces
        while len(parts) > 1:
            made = [self._numbers.get(a + b) for a, b in pairwise(parts)]
            scores = [float("-inf") if n is None else pieces[n].score for n in made]
            place = scores.index(max(scores))
            number = made[place]
            if number is None:
                return []
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            seen.append(number)
        return seen

    def cut(self, kept: Sequence[int]) -> Any:
        """Return a new tokenizer of the same class with tokens numbered as they stand here."""
        proto = type(self._proto)()
        proto.CopyFrom(self._proto)
        del proto.pieces[:]
        proto.pieces.extend(self._proto.pieces[number] for number in kept)
        places = {number: place for place, number in enumerate(kept)}
        spec = proto.trainer_spec
        spec.vocab_size = len(kept)
        for name in ("unk_id", "bos_id", "eos_id", "pad_id"):
            setattr(spec, name, places.get(getattr(spec, name), -1))
        new = self.renewed()
        new.set_proto(proto.SerializeToString())
        return self.checked(new, kept)


def _read(proto: bytes) -> Any:
    """Return the model that a tokenizer holds, as its library reads it.

    Raises:
        SurgeryError: The library is missing.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2 as library  # noqa: PLC0415
    except ImportError as error:
        raise SurgeryError(
            "A SentencePiece model is read with its own library and protobuf, and one is missing "
            f"({error}). Run: pip install sentencepiece protobuf. Or take the preprocessor off "
            "(model.preprocessor = None) and give the numbers of the tokens that stay."
        ) from error
    model = library.ModelProto()
    model.ParseFromString(proto)
    return model
