"""A package that is laid out as LiteRT.js, and does nothing."""

from __future__ import annotations

import json
from pathlib import Path


def lay_out(folder: Path) -> Path:
    """Write it to a folder that does not exist yet."""
    (folder / "dist").mkdir(parents=True)
    (folder / "wasm").mkdir()
    about = {"name": "@litertjs/core", "version": "2.5.3"}
    (folder / "package.json").write_text(json.dumps(about))
    (folder / "dist" / "index.js").write_text(
        'import { createWasmLib } from "@litertjs/wasm-utils";\nvar one = 1;\n'
        "export {\n  one\n};\n//# sourceMappingURL=index.js.map\n"
    )
    for ending in ("js", "wasm"):
        (folder / "wasm" / f"litert_wasm_compat_internal.{ending}").write_text("var two = 2;\n")
    return folder
