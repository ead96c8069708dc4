"""The headers that differ from file to file: its ends, its arena, its operators."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tflite_export.c_sources.checks import Check
from tflite_export.errors import FlatbufferError
from tflite_export.flatbuffer.ends import Decision, End
from tflite_export.text import visible

_TYPES = {
    "float32": "kFloat32",
    "int8": "kInt8",
    "uint8": "kUInt8",
    "int16": "kInt16",
    "int32": "kInt32",
    "int64": "kInt64",
    "bool": "kBool",
}
_DECISIONS = {
    Decision.NOTHING: "kNothing",
    Decision.LARGEST: "kLargest",
    Decision.ABOVE_HALF: "kAboveHalf",
}
_METHODS = {
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
_EXPECTED = 16
"""Numbers of each output that are compared."""
_HEAD = "// Written by tflite_export; edits are lost when the folder is written anew.\n"


def method(operator: str) -> str:
    """Name the method of `MicroMutableOpResolver` that adds an operator.

    Example:
        >>> method("DEPTHWISE_CONV_2D"), method("PADV2")
        ('AddDepthwiseConv2D', 'AddPadV2')
    """
    words = (word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))
    return _METHODS.get(operator) or f"Add{''.join(words)}"


def operators_header(operators: Sequence[str]) -> str:
    """Write what adds the operators of a file, and no others."""
    calls = "".join(f"  failed += static_cast<int>(resolver.{method(o)}());\n" for o in operators)
    return (
        f"{_HEAD}#ifndef MODEL_OPERATORS_H_\n#define MODEL_OPERATORS_H_\n\nnamespace model {{\n\n"
        f"constexpr int kOperatorCount = {len(operators)};\n\n"
        "// Adds the operators of the network and no others; false where one is refused.\n"
        "template <typename Resolver>\nbool AddOperators(Resolver& resolver) {\n"
        f"  int failed = 0;  // Each gives 0, which is kTfLiteOk, or more.\n{calls}"
        "  return failed == 0;\n}\n\n}  // namespace model\n\n#endif  // MODEL_OPERATORS_H_\n"
    )


def info_header(inputs: Sequence[End], outputs: Sequence[End], arena: int, margin: int) -> str:
    """Write shapes, types, scales and labels of a file's ends, and the arena.

    Raises:
        FlatbufferError: An end is of a type that C++ lacks, or has a size of 0.
    """
    labels = "".join(
        f"static const char* const kLabels{number}[] = {{\n"
        + "".join(f"    {literal(label)},\n" for label in end.labels)
        + "};\n"
        for number, end in enumerate(outputs)
        if end.labels
    )
    rank = max(len(end.shape) for end in (*inputs, *outputs)) or 1
    return f"""{_HEAD}#ifndef MODEL_INFO_H_
#define MODEL_INFO_H_

#include <stddef.h>
#include <stdint.h>

namespace model {{

enum Type {{ {", ".join(_TYPES.values())} }};

// What an output decides: its largest number does, being above one half does, or nothing.
enum Decision {{ {", ".join(_DECISIONS.values())} }};

// An input or output. real = (stored - zero_point) * scale, where there is a scale; else they are
// the same.
struct End {{
  const char* name;
  Type type;
  int rank;
  int32_t shape[{rank}];
  size_t elements;
  float scale;
  int32_t zero_point;
  Decision decision;
  const char* const* labels;
}};

{labels}
static const End kInputs[] = {{
{_ends(inputs)}}};
constexpr int kInputCount = {len(inputs)};
constexpr size_t kInputElements = {sum(end.elements for end in inputs)};  // of all inputs

static const End kOutputs[] = {{
{_ends(outputs, named=True)}}};
constexpr int kOutputCount = {len(outputs)};

// The smallest arena that TFLite Micro ran the network with when this was written, in bytes:
// measured in a process of 64 bits with the reference kernels. Pointers of 32 bits take half as
// much; optimised kernels (CMSIS-NN, ESP-NN) and other releases may ask for more: hence a margin,
// which is a guess. ArenaUsed() says what a board uses.
constexpr size_t kArenaMeasured = {arena};
#ifndef MODEL_ARENA_MARGIN
#define MODEL_ARENA_MARGIN {margin}
#endif
constexpr size_t kArenaSize = kArenaMeasured + MODEL_ARENA_MARGIN;

}}  // namespace model

#endif  // MODEL_INFO_H_
"""


def check_header(checks: Sequence[Check]) -> str:
    """Write what is right, for a program that asks when it begins."""
    rows = [
        ", ".join(_number(float(value)) for value in output.ravel()[:_EXPECTED])
        for check in checks
        for output in check.answers
    ]
    seeds = ", ".join(f"{check.seed}u" for check in checks)
    return f"""{_HEAD}#ifndef MODEL_CHECK_H_
#define MODEL_CHECK_H_

#include <stddef.h>
#include <stdint.h>

namespace model {{

// What TFLite Micro answered when this was written, to inputs that are made by a rule. A build that
// answers otherwise is not begun with: releases before the autumn of 2024 take int8 networks of
// today and answer wrongly. Define MODEL_CHECKS as 0 to go without.
#ifndef MODEL_CHECKS
#define MODEL_CHECKS {len(checks)}
#endif
constexpr int kChecks = {len(checks)};
static const uint32_t kSeeds[] = {{{seeds or "0u"}}};
constexpr size_t kExpectedMost = {_EXPECTED};  // numbers of each output
static const float kExpected[] = {{
{"".join(f"    {row},{chr(10)}" for row in rows or ["0.0f"])}}};

}}  // namespace model

#endif  // MODEL_CHECK_H_
"""


def literal(text: str) -> str:
    r"""Write text as a C string that a terminal can be shown.

    Control characters are written out. What is not ASCII, and `?` that could begin a trigraph, is
    given by its bytes.

    Example:
        >>> print(literal('cat "Ä"\n'))
        "cat \"\303\204\"\\n"
    """
    shown = visible(text).replace("\n", "\\n").replace("\t", "\\t")
    escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
    data = escaped.encode("utf-8", "replace")
    plain = (chr(b) if 32 <= b < 127 and b != ord("?") else f"\\{b:03o}" for b in data)
    return f'"{"".join(plain)}"'


def _ends(ends: Sequence[End], *, named: bool = False) -> str:
    lines = []
    for number, end in enumerate(ends):
        if end.type not in _TYPES or not end.elements:
            raise FlatbufferError(
                f"no program can be written: {end.name!r} is of type {end.type} and shape "
                f"{end.shape}."
            )
        shape = ", ".join(map(str, end.shape)) or "1"
        labels = f"kLabels{number}" if named and end.labels else "nullptr"
        lines.append(
            f"    {{{literal(end.name)}, {_TYPES[end.type]}, {len(end.shape)}, {{{shape}}}, "
            f"{end.elements}, {_number(end.scale)}, {end.zero_point}, "
            f"{_DECISIONS[end.decision]}, {labels}}},\n"
        )
    return "".join(lines)


def _number(value: float) -> str:
    written = f"{value:.9g}"
    return f"{written if re.search('[.e]', written) else written + '.0'}f"
