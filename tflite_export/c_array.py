"""A model as C source, for microcontrollers without files."""

from __future__ import annotations

import re

from tflite_export.errors import OptionError
from tflite_export.flatbuffer import container

__all__ = ["to_c"]


def to_c(flat: bytes, name: str = "model", *, metadata: bool = False) -> str:
    """Write a model as a C header with an aligned array.

    The array is `const`, so that it stays in flash, and aligned to 16 bytes, as the
    flatbuffer needs to be read in place.

    Args:
        flat: The model.
        name: The array's name; its length is called ``<name>_len``.
        metadata: Whether associated files are kept; a microcontroller rarely reads them.

    Returns:
        The header, for C and C++.

    Raises:
        OptionError: `name` is no C identifier.
        FlatbufferError: `flat` is not a TFLite model.

    Example:
        >>> save(to_c(flat, "digits_tflite"), "digits_tflite.h")   # doctest: +SKIP
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise OptionError(f"name must be a C identifier. Received: {name!r}.")
    stamp = container.check(flat)
    if stamp is not None and not metadata:
        flat = flat[: stamp.length]
    guard = f"{name.upper()}_H_"
    lines = [
        "  " + ", ".join(f"0x{byte:02x}" for byte in flat[start : start + 12]) + ","
        for start in range(0, len(flat), 12)
    ]
    return "\n".join(
        [
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#if defined(__cplusplus)",
            f"#define {guard}ALIGN alignas(16)",
            "#elif defined(__GNUC__) || defined(__clang__)",
            f"#define {guard}ALIGN __attribute__((aligned(16)))",
            "#else",
            f"#define {guard}ALIGN _Alignas(16)",
            "#endif",
            "",
            f"{guard}ALIGN static const unsigned char {name}[] = {{",
            *lines,
            "};",
            f"static const unsigned int {name}_len = {len(flat)};",
            "",
            f"#endif  // {guard}",
            "",
        ]
    )
