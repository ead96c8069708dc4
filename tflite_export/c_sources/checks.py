"""Inputs to which a program knows the right answers, so that it can tell a build that errs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.ends import End
from tflite_export.runtimes.micro import micro_runner
from tflite_export.runtimes.remote import RemoteRunner

Array = np.ndarray[Any, Any]
_CHECKS = 3
"""How often a program compares."""
_TRIED = 24
"""Inputs that are tried, for those at which old releases err most."""


@dataclass(frozen=True)
class Check:
    """An input and what is right.

    Attributes:
        seed: What `check_values` makes the input of.
        answers: Every output, real values, in the order of the graph.
    """

    seed: int
    answers: tuple[Array, ...]


def check_values(end: End, seed: int) -> Array:
    """Make an input by the rule that `network.cpp` makes it by, of shape `end.shape`."""
    if end.type != "float32" and not end.scale:
        return np.zeros(end.shape, np.float32)
    lowest, highest = 0.0, 1.0
    if end.type != "float32":
        limits = np.iinfo(end.type)
        lowest, highest = (
            (limit - end.zero_point) * end.scale for limit in (limits.min, limits.max)
        )
    index = np.arange(end.elements, dtype=np.uint32)
    share = (index * np.uint32(7919) + np.uint32(104729 * seed + 31)) % np.uint32(997) / 996.0
    values = (lowest + share * (highest - lowest)) / 2 ** (seed % 3)
    return np.asarray(values.astype(np.float32).reshape(end.shape))


def checks(flat: bytes, inputs: Sequence[End], outputs: Sequence[End]) -> list[Check]:
    """Ask TFLite Micro what is right.

    Releases before September 2024 read the first scale of a dense layer for all its units. Where a
    file has such layers, the inputs are those to which they answer most differently.

    Args:
        flat: The flatbuffer.
        inputs: Its inputs.
        outputs: Its outputs.

    Returns:
        The checks; fewer where an answer is not finite.
    """
    read_otherwise = _first_scales(flat)
    seeds = range(_CHECKS if read_otherwise is None else _TRIED)
    right = _answers(micro_runner(flat), inputs, outputs, seeds)
    ranked = sorted(seed for seed in seeds if _finite(right[seed]))
    if read_otherwise is not None:
        wrong = _answers(micro_runner(read_otherwise), inputs, outputs, seeds)
        ranked.sort(key=lambda seed: -_apart(right[seed], wrong[seed]))
    return [Check(seed, right[seed]) for seed in ranked[:_CHECKS]]


def dense_scales(model: Any) -> list[tuple[Any, Any]]:
    """Find the dense layers with a scale for each unit: their graphs and weights."""
    return [
        (graph, graph.tensors[operator.inputs[1]])
        for graph in model.subgraphs
        for operator in graph.operators or ()
        if flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) == "FULLY_CONNECTED"
        and _scales(graph.tensors[operator.inputs[1]]) > 1
    ]


def _scales(tensor: Any) -> int:
    known = tensor.quantization
    return 0 if known is None or known.scale is None else len(known.scale)


def _first_scales(flat: bytes) -> bytes | None:
    """The file as old releases read it; None where they read it rightly."""
    model = copy.deepcopy(container.parse(flat))
    found = dense_scales(model)
    if not found:
        return None
    for _, weights in found:
        weights.quantization.scale = np.full_like(
            weights.quantization.scale, weights.quantization.scale[0]
        )
    return container.pack(model, quantize="")


def _answers(
    runner: RemoteRunner, inputs: Sequence[End], outputs: Sequence[End], seeds: Sequence[int]
) -> dict[int, tuple[Array, ...]]:
    found = {}
    for seed in seeds:
        values = {end.name: check_values(end, seed) for end in inputs}
        answers = runner([values[slot.name] for slot in runner.inputs])
        names = (slot.name for slot in runner.outputs)
        by_name = dict(zip(names, answers, strict=True))
        found[seed] = tuple(by_name[end.name] for end in outputs)
    return found


def _finite(answers: Sequence[Array]) -> bool:
    return all(bool(np.isfinite(output).all()) for output in answers)


def _apart(right: Sequence[Array], wrong: Sequence[Array]) -> float:
    """Largest difference, as a share of an output's scale."""
    return max(
        float(np.abs(one - other).max() / (np.abs(one).max() or 1.0))
        for one, other in zip((output.astype(np.float64) for output in right), wrong, strict=True)
    )
