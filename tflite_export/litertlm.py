"""Pack a file that generates, with its tokenizer, for LiteRT-LM."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tflite_export.errors import OptionError
from tflite_export.files import read, save
from tflite_export.flatbuffer import container
from tflite_export.generative import Generator
from tflite_export.running.silence import captured
from tflite_export.writing.temporary import held_folder

__all__ = ["to_litertlm"]

_ABOUT = "litert_lm_builder.runtime.proto.llm_metadata_pb2"
_METADATA, _MODEL, _PIECES, _JSON = "about.pb", "model.tflite", "tokenizer.model", "tokenizer.json"


def to_litertlm(
    flat: bytes | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    tokenizer: Any,
    stop_tokens: Sequence[int],
    start_token: int | None = None,
    chat_template: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a `.litertlm` file, which LiteRT-LM runs on phones and computers.

    Needs the extra `keras-nns[litertlm]`. The file carries the time when it was made: the same
    model does not give the same bytes twice.

    Args:
        flat: A file of `convert_generative`, or its path.
        path: The file to write, which ends in `.litertlm`.
        tokenizer: What texts were put into tokens with: the path of a `tokenizer.json` or of a
            SentencePiece `.model`, a tokenizer of the package `tokenizers`, or one of KerasHub that
            is made of SentencePiece.
        stop_tokens: Tokens that end an answer.
        start_token: The token that every prompt begins with, where the model was trained so.
        chat_template: A Jinja template that puts a conversation into a prompt, for models that were
            trained to converse.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The path that was written.

    Raises:
        OptionError: The extra is missing, or a tokenizer or token cannot be used.
        FlatbufferError: The file is damaged, or does not generate.
        ExportFileError: A file cannot be read or written.

    Example:
        >>> flat = tflite_export.convert_generative(llama, cache_length=16, prefill_length=4)
        >>> tflite_export.to_litertlm(
        ...     flat, "llama.litertlm", tokenizer=letters, stop_tokens=[0]
        ... ).name
        'llama.litertlm'
    """
    target = Path(path)
    if target.suffix != ".litertlm":
        raise OptionError(f"the path must end in .litertlm. Received: {str(path)!r}.")
    try:
        builder = import_module("litert_lm_builder.litertlm_builder")
        about = import_module(_ABOUT).LlmMetadata()
    except ImportError as error:
        raise OptionError(
            "to_litertlm needs litert-lm-builder: pip install 'keras-nns[litertlm]'."
        ) from error
    data = read(flat) if isinstance(flat, (str, os.PathLike)) else flat
    generator = Generator(data)
    if not len(stop_tokens):
        raise OptionError("stop_tokens is empty: no answer would end. Name one token or more.")
    starts = [] if start_token is None else [start_token]
    for token in (*stop_tokens, *starts):
        if not 0 <= int(token) < generator.vocabulary:
            raise OptionError(
                "stop_tokens and start_token are numbers of tokens, and this file knows "
                f"{generator.vocabulary:,}. Received: {token!r}."
            )
    about.max_num_tokens = generator.cache_length
    about.llm_model_type.generic_model.SetInParent()
    for token in stop_tokens:
        about.stop_tokens.add().token_ids.ids.append(int(token))
    for token in starts:
        about.start_token.token_ids.ids.append(int(token))
    if chat_template is not None:
        about.jinja_prompt_template = chat_template
    kind, packed = _tokenizer(tokenizer)
    parts = {
        _METADATA: about.SerializeToString(),
        kind: packed,
        # Without the files behind it, which are no part of the flatbuffer.
        _MODEL: container.serialize(container.parse(data)),
    }
    failure: Exception | None = None
    with captured(), held_folder(Path(tempfile.gettempdir()), "tflite_export") as folder:
        try:
            made = _built(builder, folder, parts)
        except Exception as error:  # What the builder raises is not said.
            failure = error
    if failure is not None:
        raise OptionError(f"litert-lm-builder refuses this: {failure}") from failure
    return save(made, target, overwrite=overwrite)


def _built(builder: Any, folder: Path, parts: Mapping[str, bytes]) -> bytes:
    """Put the parts into one file."""
    for name, content in parts.items():
        (folder / name).write_bytes(content)
    making = builder.LitertLmFileBuilder()
    making.add_system_metadata(builder.Metadata("Authors", "tflite_export", builder.DType.STRING))
    making.add_llm_metadata(str(folder / _METADATA))
    if _JSON in parts:
        making.add_hf_tokenizer(str(folder / _JSON))
    else:
        making.add_sentencepiece_tokenizer(str(folder / _PIECES))
    making.add_tflite_model(str(folder / _MODEL), builder.TfLiteModelType.PREFILL_DECODE)
    buffer = io.BytesIO()
    making.build(buffer)
    return buffer.getvalue()


def _tokenizer(given: Any) -> tuple[str, bytes]:
    """Return the name that tells its kind, and its bytes.

    Raises:
        OptionError: It is of no known kind.
        ExportFileError: It cannot be read.
    """
    if isinstance(given, (str, os.PathLike)):
        kind = {".json": _JSON, ".model": _PIECES, ".spm": _PIECES}.get(Path(given).suffix)
        if kind is not None:
            return kind, read(given)
    elif callable(getattr(given, "to_str", None)):
        return _JSON, str(given.to_str()).encode()
    elif isinstance(getattr(given, "proto", None), bytes):
        return _PIECES, bytes(given.proto)
    received = repr(given) if isinstance(given, str) else type(given).__name__
    raise OptionError(
        f"this tokenizer cannot be packed. Received: {received}. Expected the path of a "
        "tokenizer.json or of a SentencePiece .model, a tokenizer of the package tokenizers, or "
        "one of KerasHub that is made of SentencePiece."
    )
