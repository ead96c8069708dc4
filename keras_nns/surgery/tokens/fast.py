"""Tokenizers of the package `tokenizers`, as their own JSON describes them: byte pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_nns.errors import SurgeryError
from keras_nns.surgery.tokens.byte_pairs import Merges


class FastPieces:
    """A `tokenizers.Tokenizer` over byte-level pairs.

    Args:
        tokenizer: The user's; it is not changed.

    Raises:
        SurgeryError: It is of another kind, or its model has settings that are not known here.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._told: dict[str, Any] = json.loads(tokenizer.to_str())
        model = self._told["model"]
        odd = [name for name in _ODD if model.get(name)]
        if model.get("type") != "BPE" or odd:
            raise SurgeryError(
                "Of tokenizers of the package `tokenizers` those of byte-level pairs can be cut. "
                f"Received: {model.get('type')}{' with ' if odd else ''}{', '.join(odd)}. Cut the "
                "model alone, by the numbers of the tokens that stay, without tokenizer=…."
            )
        added = {int(entry["id"]): entry["content"] for entry in self._told["added_tokens"]}
        numbers = {name: int(number) for name, number in model["vocab"].items()}
        self.names: Mapping[int, str] = {n: name for name, n in numbers.items()} | added
        self.special: Mapping[int, str] = {
            int(entry["id"]): entry["content"]
            for entry in self._told["added_tokens"]
            if entry["special"]
        }
        merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        self._merges = Merges(numbers, [(a, b) for a, b in merges])
        bare = {n for name, n in numbers.items() if len(name) == 1 or name not in self._merges.made}
        self.fixed = frozenset(bare).union(added)

    def made_of(self, tokens: Iterable[int]) -> set[int]:
        """Return the tokens that stand for a while where some tokens are being made."""
        return self._merges.made_of(self.names[number] for number in tokens)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of texts, without what is put around them."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [list(one.ids) for one in found]

    def cut(self, kept: Sequence[int]) -> Any:
        """Return a new tokenizer of the same class with tokens numbered as they stand here."""
        places = {number: place for place, number in enumerate(kept)}
        told = json.loads(json.dumps(self._told))
        own = told["model"]["vocab"].items()
        vocabulary = {name: places[int(n)] for name, n in own if int(n) in places}
        told["model"]["vocab"] = vocabulary
        told["model"]["merges"] = [[a, b] for a, b in self._merges.left(set(vocabulary))]
        for entry in told["added_tokens"]:
            entry["id"] = places[int(entry["id"])]
        if told.get("post_processor"):
            _renumber(told["post_processor"], places)
        if told.get("padding"):
            told["padding"]["pad_id"] = places.get(told["padding"]["pad_id"], 0)
        return type(self.tokenizer).from_str(json.dumps(told))


_ODD = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout")


def _renumber(post: dict[str, Any], places: Mapping[int, int]) -> None:
    """Give what is put around texts its new numbers.

    Raises:
        SurgeryError: It is of a kind that is not known here.
    """
    kind = post["type"]
    if kind == "Sequence":
        for inner in post["processors"]:
            _renumber(inner, places)
    elif kind == "TemplateProcessing":
        for entry in post["special_tokens"].values():
            entry["ids"] = [places[number] for number in entry["ids"]]
    elif kind in ("BertProcessing", "RobertaProcessing"):
        for end in ("sep", "cls"):
            post[end][1] = places[post[end][1]]
    elif kind != "ByteLevel":
        raise SurgeryError(f"A tokenizer with a post-processor of kind {kind} cannot be cut.")
