"""A page that runs a file in a browser, from disk."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from tflite_export.browser import library as litert
from tflite_export.browser import limits
from tflite_export.files import read
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.ends import End, ends
from tflite_export.metadata import Metadata, read_metadata
from tflite_export.runtimes.refusals import NotRunError
from tflite_export.text import visible
from tflite_export.writing.folders import replacing_folder

__all__ = ["to_web"]

_PARTS = Path(__file__).parent / "web_page"
_PIXELS = {
    "unit": "Pixels 0 to 1",
    "bytes": "Pixels 0 to 255",
    "signed": "Pixels -1 to 1",
}


def to_web(
    flat: bytes | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    library: str | os.PathLike[str] | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a page that runs the model in a browser, with LiteRT.js on the CPU.

    `index.html` has the model inside, and `litert.js` lies beside it. Both work from disk, without
    a server and without a network: what is drawn or photographed stays on the device. An input of
    one or three channels is drawn, read from a picture or taken by the camera; any other is typed
    or read as numbers. Answers are bars with their labels, as one draws.

    Args:
        flat: The model's bytes, or its path.
        folder: The folder to write.
        library: LiteRT.js, the npm package @litertjs/core 2.5.3: its folder, a folder that
            `npm install` was run in, or the .tgz of `npm pack`. By default it is looked for in
            `node_modules` here and above.
        title: What stands above; the model's name by default.
        overwrite: Whether a folder that was written before may be replaced.

    Returns:
        The folder that was written, whole, or not at all.

    Raises:
        OptionError: LiteRT.js is not there; the message says how to get it.
        FlatbufferError: Not a TFLite model, or one that LiteRT.js does not run: it takes no int8 or
            int16 at the ends, and no open size but the batch; the message says the way on.
        ExportFileError: The folder exists, holds other files, or cannot be written.

    Example:
        >>> flat = tflite_export.convert(model, quantize="int8_float", samples=x)
        >>> tflite_export.to_web(flat, "digits")  # npm install @litertjs/core@2.5.3
        PosixPath('digits')
    """
    data = bytes(read(flat) if isinstance(flat, (str, os.PathLike)) else flat)
    metadata = read_metadata(data)
    model = container.parse(data)
    inputs, outputs = ends(model, metadata)
    reason = limits.refused(model, [*inputs, *outputs])
    if reason:
        raise NotRunError(limits.NAME, reason)
    place = Path(folder)
    page = _page(data, metadata, inputs, outputs, title)
    with replacing_folder(place, made=["index.html", "litert.js"], overwrite=overwrite) as part:
        script = litert.script(library)
        (part / "litert.js").write_text(script, encoding="utf-8")
        (part / "index.html").write_text(page, encoding="utf-8")
    return place


def _page(
    data: bytes,
    metadata: Metadata,
    inputs: Sequence[End],
    outputs: Sequence[End],
    title: str | None,
) -> str:
    flat = limits.alone(data)
    ranges = {one.name: one.maximum for one in metadata.inputs}
    normalized = any(end.normalization is not None for end in inputs)
    network = {
        "file": base64.b64encode(flat).decode(),
        "pixels": {**({"file": "Pixels as the file says"} if normalized else {}), **_PIXELS},
        "inputs": [{**_told(end), "pixels": _pixels(end, ranges.get(end.name))} for end in inputs],
        "outputs": [_told(end) for end in outputs],
    }
    name = visible(title or metadata.name or "Network")
    about = f"{visible(metadata.description)} " if metadata.description else ""
    return Template((_PARTS / "index.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(name),
        about=html.escape(f"{about}{len(flat):,} bytes, {metadata.quantize or 'unknown variant'}."),
        style=(_PARTS / "style.css").read_text(encoding="utf-8"),
        script=(_PARTS / "page.js").read_text(encoding="utf-8"),
        network=_inside(network),
    )


def _inside(value: Any) -> str:
    """JSON that can stand in a script of a page: nothing in it ends the script."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _told(end: End) -> dict[str, Any]:
    known = end.normalization
    return {
        "name": end.name,
        "type": end.type,
        "shape": end.shape,
        "elements": end.elements,
        "scale": end.scale,
        "zero_point": end.zero_point,
        "decision": end.decision.value,
        "labels": [visible(label) for label in end.labels],
        "normalization": None if known is None else {"mean": known.mean, "std": known.std},
    }


def _pixels(end: End, largest: float | None) -> str:
    """Which scale of pixels an input is for: what the file says, or what it was calibrated with."""
    if end.normalization is not None:
        return "file"
    return "bytes" if largest is not None and largest > 2 else "unit"
