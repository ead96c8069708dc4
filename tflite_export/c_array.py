"""A model as C source, for microcontrollers without files."""

from __future__ import annotations

import re

from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.errors import OptionError
from tflite_export.flatbuffer import container

__all__ = ["to_c"]

# C23 and C++23; `alignas` and the like are macros in C, and no better as names.
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
    constinit continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long main mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires
    restrict return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using
    virtual void volatile wchar_t while xor xor_eq
"""


_UNREAD = frozenset(
    {
        container.METADATA_NAME,
        container.STAMP_NAME,
        "CONVERSION_METADATA",
        "min_runtime_version",
    }
)
"""Entries of a file's metadata that TFLite Micro does not look at."""


def to_c(flat: bytes, name: str = "model", *, metadata: bool = False) -> str:
    """Write a model as a C header with an aligned array.

    The array is `const`, so that it stays in flash, and aligned to 16 bytes, as the
    flatbuffer needs to be read in place.

    Args:
        flat: The model.
        name: The array's name; its length is called ``<name>_len``.
        metadata: Whether all of the file is kept, byte for byte: names of tensors, signatures,
            metadata, associated files. TFLite Micro reads none of it, so it is left out.

    Returns:
        The header, for C and C++.

    Raises:
        OptionError: `name` is no C identifier, or one that C and C++ have taken.
        FlatbufferError: `flat` is not a TFLite model.

    Example:
        >>> header = tflite_export.to_c(flat, "digits_tflite")
        >>> tflite_export.save(header, "digits_tflite.h").name
        'digits_tflite.h'
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise OptionError(f"name must be a C identifier. Received: {name!r}.")
    if name in _KEYWORDS.split() or "__" in name or re.match(r"_[A-Z_]", name):
        raise OptionError(
            f"name must be free to use: {name!r} is a word of C or C++, or reserved for compilers. "
            f"Call it {name.strip('_').replace('__', '_') or 'array'}_model, for instance."
        )
    container.check(flat)
    if not metadata:
        flat = in_flash(flat)
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


def in_flash(flat: bytes) -> bytes:
    """Give the part of a file that a microcontroller has: what an interpreter reads.

    Names of tensors, signatures, the converter's notes, metadata, the check sum and the files
    behind the flatbuffer are for people and programs on larger machines: of an int8 network of ten
    kilobytes they are one and a half.

    Args:
        flat: The model.

    Returns:
        A flatbuffer with the same operators and tensors, in the same order.

    Raises:
        FlatbufferError: It is not a TFLite model.
    """
    container.check(flat)
    model = container.parse(flat)
    flatbuffer_utils.strip_strings(model)
    container.drop(model, _UNREAD)
    return container.serialize(model)
