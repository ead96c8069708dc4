"""Which reader fits a tokenizer."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from keras_nns.errors import SurgeryError
from keras_nns.surgery.tokens.pieces import Pieces

_OWN = {
    *("tokenize", "detokenize", "vocabulary_size", "get_vocabulary", "token_to_id", "id_to_token"),
    *("set_vocabulary", "set_proto", "set_vocabulary_and_merges", "_set_vocabulary_tf"),
    *("_set_vocabulary_and_merges_tf", "_set_vocabulary_and_merges_tokenizers"),
    *("_set_proto_tf", "_set_proto_spm", "_tokenize_tf", "_tokenize_tokenizers", "_tokenize_spm"),
    *("_tokenize_python", "_bpe_merge_and_update_cache_tf", "_detokenize_tf"),
}
"""What a class that only names special tokens leaves to the one that it builds on."""


def pieces_of(tokenizer: Any) -> Pieces:
    """Read a tokenizer so that tokens of it can be left out.

    Raises:
        SurgeryError: Nothing is known of tokenizers of its class, it has no vocabulary, or what
            reads it is missing.
    """
    kind = type(tokenizer)
    if kind.__module__.split(".")[0] == "tokenizers" and hasattr(tokenizer, "to_str"):
        fast: Pieces = import_module("keras_nns.surgery.tokens.fast").FastPieces(tokenizer)
        return fast
    if "keras_hub" in sys.modules:
        hub = import_module("keras_nns.surgery.tokens.hub")
        sentences = import_module("keras_nns.surgery.tokens.sentence_pieces")
        for base, attribute, reader in (
            (hub.BytePairTokenizer, "vocabulary", hub.BytePairs),
            (hub.WordPieceTokenizer, "vocabulary", hub.WordPieces),
            (sentences.SentencePieceTokenizer, "proto", sentences.SentencePieces),
        ):
            if not isinstance(tokenizer, base):
                continue
            if getattr(tokenizer, attribute) is None:
                raise SurgeryError(f"{kind.__name__} has no vocabulary yet, so none can be cut.")
            between = kind.__mro__[: kind.__mro__.index(base)]
            own = sorted(name for name in _OWN if any(name in vars(each) for each in between))
            if own:
                raise SurgeryError(_unknown(kind, f", which has {', '.join(own)} of its own"))
            found: Pieces = reader(tokenizer)
            return found
    raise SurgeryError(_unknown(kind, ""))


def _unknown(kind: type, why: str) -> str:
    return (
        f"Nothing is known of how a {kind.__name__} is cut{why}. Known are KerasHub's tokenizers "
        "of byte pairs, WordPiece and SentencePiece, and those of byte pairs of the package "
        "`tokenizers`. To cut the model alone, take the preprocessor off (model.preprocessor = "
        "None) and give the numbers of the tokens that stay."
    )
