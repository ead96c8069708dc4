"""LiteRT.js as one script: a page that is opened from disk may load scripts and fetch nothing."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

from tflite_export.errors import ExportFileError, OptionError

NAME, VERSION = "@litertjs/core", "2.5.3"
_MOST = 1 << 26
"""Bytes of a file in the package; the largest has 9.6 million."""
_IMPORT = re.compile(r'^import \{ createWasmLib \} from "@litertjs/wasm-utils";$', re.MULTILINE)
_EXPORT = re.compile(r"^export \{([^}]*)\};\s*(//# sourceMappingURL=\S*\s*)?\Z", re.MULTILINE)
# The build without relaxed SIMD runs in every browser, and its sums are the same in all of them.
_GLUE = "wasm/litert_wasm_compat_internal"
INSTALL = f"`npm install {NAME}@{VERSION}` in the folder you work in"
"""How it gets to where it is looked for."""
_GET = (
    f"{INSTALL}, or `npm pack {NAME}@{VERSION}` and library='litertjs-core-{VERSION}.tgz' "
    "(--library in a shell)"
)
_SCRIPT = """// {name} {version} (Apache-2.0), packed so that a page on disk can load it.
(function () {{
"use strict";
const packed = "{wasm}";
async function unpacked() {{
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}}
{glue}
// Its notes come as errors: only its errors stay such.
const printErr = (text) => (/^ERROR/.test(text) ? console.error : console.debug)(text);
const createWasmLib = async (make) =>
  new make(await ModuleFactory({{ wasmBinary: await unpacked(), printErr }}));
{core}
window.LiteRtJs = {{{names}}};
}})();
"""


def installed() -> bool:
    """Whether it is in `node_modules` here or above."""
    return any(map(_is_package, _places(None)))


def script(library: str | os.PathLike[str] | None) -> str:
    """Write LiteRT.js as one script that sets `window.LiteRtJs`.

    Args:
        library: The npm package: its folder, one that `npm install` was run in, or the .tgz of
            `npm pack`; `None` to look in `node_modules` here and above.

    Raises:
        OptionError: There is no such package there; the message says how to get it.
        ExportFileError: A file of it cannot be read.
    """
    read = _opened(library)
    about = json.loads(read("package.json"))
    if about.get("name") != NAME:
        raise OptionError(f"expected the npm package {NAME}. Received: {about.get('name')!r}.")
    core = read("dist/index.js").decode("utf-8")
    wasm = base64.b64encode(gzip.compress(read(f"{_GLUE}.wasm"), 9, mtime=0)).decode()
    glue = read(f"{_GLUE}.js").decode("utf-8")
    names = _EXPORT.search(core)
    if names is None or not _IMPORT.search(core):
        raise OptionError(
            f"{NAME} {about.get('version')} is laid out otherwise than {VERSION}, which is known "
            f"here. Get that one: {_GET}."
        )
    return _SCRIPT.format(
        name=NAME,
        version=about.get("version"),
        wasm=wasm,
        glue=glue,
        core=_IMPORT.sub("", core[: names.start()]),
        names=" ".join(names[1].split()),
    )


def _opened(library: str | os.PathLike[str] | None) -> Callable[[str], bytes]:
    """Find the package, and give what reads a file of it."""
    for place in _places(library):
        if place.is_file():
            return lambda name: _packed(place, name)
        if _is_package(place):
            return lambda name: _unpacked(place / name)
    where = "node_modules here or above" if library is None else str(library)
    raise OptionError(f"LiteRT.js, the npm package {NAME}, is not in {where}: {_GET}.")


def _places(library: str | os.PathLike[str] | None) -> list[Path]:
    if library is None:
        here = Path.cwd()
        return [folder / "node_modules" / NAME for folder in (here, *here.parents)]
    given = Path(library)
    return [given, given / NAME, given / "node_modules" / NAME]


def _is_package(place: Path) -> bool:
    return (place / "package.json").is_file() and (place / "dist" / "index.js").is_file()


def _unpacked(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportFileError(f"cannot read {path}: {error.strerror or error}.") from error


def _packed(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as tar:
            member = tar.getmember(f"package/{name}")
            stream = tar.extractfile(member) if member.size <= _MOST else None
            if stream is not None:
                return stream.read()
    except (OSError, KeyError, EOFError, tarfile.TarError) as error:
        raise OptionError(
            f"{archive} is no package {NAME} of npm ({' '.join(str(error).split())}): {_GET}."
        ) from error
    raise OptionError(f"{archive} is no package {NAME} of npm: {_GET}.")
