"""What is said of TFLite Micro without it is what its interpreter does."""

from __future__ import annotations

import collections
import os

import pytest
import runtime_families
import single_operators

import tflite_export
from tflite_export.runtimes.micro import micro_runner
from tflite_export.runtimes.micro_kernels import KERNELS, WEIGHTED

pytestmark = pytest.mark.slow

# All of them take some minutes.
FAMILIES = ["DepthwiseConv2D, batch norm", "attention", "LSTM"]
if os.environ.get("KERAS_NNS_ALL_FAMILIES"):
    FAMILIES = list(runtime_families.FAMILIES)


def runs(flat: bytes) -> bool:
    try:
        micro_runner(flat)
    except tflite_export.FlatbufferError:
        return False
    return True


# Refused for a scale that they must have, which these models of one operator have not.
_SCALED = {("LOG_SOFTMAX", "int8")}


def test_every_operator_runs_with_the_types_that_are_told_and_no_others() -> None:
    asked = collections.defaultdict(set)
    for name, kind, flat in single_operators.operators():
        asked[name].add(kind)
        told = tflite_export.anatomy(flat)
        assert told.runs_on_micro == (kind in KERNELS[name]), (name, kind)
        if (name, kind) not in _SCALED:
            assert told.runs_on_micro == runs(flat), (name, kind, told.not_in_micro)
    assert set(asked) == set(KERNELS)


def test_every_pair_of_types_with_weights() -> None:
    asked = set()
    for name, kind, other, flat in single_operators.weighted():
        asked.add(name)
        told = tflite_export.anatomy(flat)
        assert told.runs_on_micro == ((kind, other) in WEIGHTED[name])
        assert told.runs_on_micro == runs(flat), (name, kind, other, told.not_in_micro)
    assert asked == set(WEIGHTED)


def test_every_type_of_positions() -> None:
    for name, kind, flat in single_operators.positioned():
        told = tflite_export.anatomy(flat)
        assert told.runs_on_micro == runs(flat) == (kind == "int32"), (name, kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_variant_of_a_family(family: str) -> None:
    found = runtime_families.verdicts(family)
    for name, one in found.items():
        assert (one["told"] == "right") == (one["micro"] == "right"), (name, one)
    for name in {"float32", "int8"} & found.keys():
        assert found[name]["litert"] == "right"
    # The table in the documentation is what is found.
    assert runtime_families.row(family, found) in runtime_families.PAGE.read_text()
