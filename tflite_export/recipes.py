"""Quantize a finished float32 flatbuffer with ai-edge-quantizer, layer by layer if asked.

A recipe is a dict from layer names (or ``op:`` and an operator) to variants, in which later
entries win, or a recipe in ai-edge-quantizer's own form::

    {"*": "int8", "scores": "float32", "conv_*": "weight_int4", "op:SOFTMAX": "float32"}
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tflite_export.conversion import dead_units
from tflite_export.errors import ConversionError, OptionError
from tflite_export.flatbuffer import container
from tflite_export.keras_model.source import Source
from tflite_export.variants import VARIANTS, Variant, variant

Recipe = Mapping[str, str] | Sequence[Mapping[str, Any]]
Array = np.ndarray[Any, Any]
_EIGHT_BITS = ("DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")
_BITS = {"int4": 4, "int8": 8, "int16": 16}


def rules(recipe: Recipe | Variant, origin: Source) -> list[dict[str, Any]]:
    """Write a recipe in ai-edge-quantizer's form.

    Raises:
        OptionError: A pattern fits no layer, or an operator or variant is unknown.
    """
    if isinstance(recipe, Variant):
        return _rules([(".*", "*", recipe)])
    if not isinstance(recipe, Mapping):
        return [dict(rule) for rule in recipe]
    entries = []
    for pattern, name in recipe.items():
        row = variant(name)
        if pattern.startswith("op:"):
            operator = pattern.removeprefix("op:")
            known = [item.value for item in _module("qtyping").TFLOperationName]
            if operator not in known:
                raise OptionError(
                    f"recipe entry {pattern!r} names an operator that ai-edge-quantizer does not "
                    f"know; it knows {', '.join(known)}."
                )
            entries.append((".*", operator, row))
        elif pattern == "*":
            entries.append((".*", "*", row))
        else:
            entries.append((_scope(pattern, origin), "*", row))
    return _rules(entries)


def loosest(recipe: Recipe) -> Variant:
    """The row of a recipe whose tolerance is the widest: the one the whole file is held to."""
    if isinstance(recipe, Mapping):
        rows = [variant(name) for name in recipe.values()]
    else:
        rows = [_row_of(rule) for rule in recipe]
    if not rows:
        raise OptionError("the recipe is empty; give at least {'*': 'float32'}.")
    return max(rows, key=lambda row: (row.tolerance.rms != float("inf"), row.tolerance.rms))


def needs_samples(recipe: list[dict[str, Any]]) -> bool:
    """Whether any rule quantizes activations with fixed ranges."""
    return any((rule.get("op_config") or {}).get("activation_tensor_config") for rule in recipe)


def apply(
    flat: bytes, recipe: list[dict[str, Any]], batches: Iterable[dict[str, Array]] | None
) -> bytes:
    """Quantize a float32 flatbuffer.

    Args:
        flat: The model, with the signature ``serving_default``.
        recipe: Rules in ai-edge-quantizer's form.
        batches: Representative inputs by signature name, where the recipe needs them.
    """
    quantizer = _module("quantizer").Quantizer(bytearray(flat), recipe)
    calibration = _ranges(flat, batches or ()) if quantizer.need_calibration else None
    done = quantizer.quantize(calibration, enable_progress_report=False)
    quantized = bytes(done.quantized_model)
    if calibration is None:
        return quantized
    model = container.parse(quantized)
    dead_units.keep_biases(model, container.parse(flat))
    return container.serialize(model)


def _ranges(flat: bytes, batches: Iterable[dict[str, Array]]) -> dict[str, dict[str, Array]]:
    """Measure the smallest and largest value of every activation, by the tensors' names.

    ai-edge-quantizer's own calibration averages the extremes of single batches, which clips most of
    what a batch of one sample does not reach, and cannot read what XNNPACK keeps to itself.
    """
    interpreter = Interpreter(
        model_content=flat,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    model = container.parse(flat)
    activations = {
        index: container.text(tensor.name)
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.type == schema.TensorType.FLOAT32 and not container.constant(model, tensor)
    }
    found: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for detail in interpreter.get_input_details():
            interpreter.resize_tensor_input(detail["index"], batch[detail["name"]].shape)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], batch[detail["name"]])
        interpreter.invoke()
        for index, name in activations.items():
            values = interpreter.get_tensor(index)
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = min(low, values.min(initial=low)), max(high, values.max(initial=high))
    return {
        name: {"min": np.array([low]), "max": np.array([high])}
        for name, (low, high) in found.items()
    }


def _rules(entries: list[tuple[str, str, Variant]]) -> list[dict[str, Any]]:
    manager = _module("recipe_manager").RecipeManager()
    untouched = _module("algorithm_manager").AlgorithmName.NO_QUANTIZE
    for regex, operation, row in (one for entry in entries for one in _with_int8(*entry)):
        where = {"regex": regex, "operation_name": _module("qtyping").TFLOperationName(operation)}
        if row.needs_samples:
            manager.add_static_config(
                **where,
                activation_num_bits=_BITS[row.activations],
                weight_num_bits=_BITS[row.weights],
            )
        elif row.weights == "float32":
            manager.add_quantization_config(**where, algorithm_key=untouched)
        elif row.weights not in _BITS:
            usable = [name for name, other in VARIANTS.items() if other.weights != "float16"]
            raise OptionError(
                f"{row.name!r} cannot be part of a recipe; expected one of {', '.join(usable)}."
            )
        elif row.activations == "dynamic":
            manager.add_dynamic_config(**where, num_bits=_BITS[row.weights])
        else:
            manager.add_weight_only_config(**where, num_bits=_BITS[row.weights])
    return list(manager.get_quantization_recipe())


def _with_int8(regex: str, operation: str, row: Variant) -> list[tuple[str, str, Variant]]:
    """Add int8 for what ai-edge-quantizer leaves in float32 where it is to be int4."""
    entry = (regex, operation, row)
    if row.weights != "int4" or operation != "*":
        return [entry]
    other = VARIANTS["dynamic" if row.activations == "dynamic" else "weight_int8"]
    return [entry, *((regex, operator, other) for operator in _EIGHT_BITS)]


def _scope(pattern: str, origin: Source) -> str:
    """Turn a pattern of layer names into one of the operators' names.

    Keras opens a layer's scope once to build and once per call, so TensorFlow numbers every
    call: ``conv`` appears as ``conv_1``. The file's outputs bear their own names.
    """
    layers = [name for name in origin.layers if fnmatch.fnmatchcase(name, pattern)]
    if not layers:
        raise OptionError(
            f"recipe entry {pattern!r} fits no layer of model {origin.name!r}; its layers are "
            f"{', '.join(origin.layers)}."
        )
    names = "|".join(re.escape(name) for name in layers)
    ends = [re.escape(port.name) for port in origin.outputs if port.layer in layers]
    end = f"|^(?:{'|'.join(ends)})(?:;|$)" if ends else ""
    return rf"(?:^|[/;])(?:{names})_\d+/{end}"


def _row_of(rule: Mapping[str, Any]) -> Variant:
    """The variant that a rule in ai-edge-quantizer's form amounts to."""
    config = rule.get("op_config") or {}
    weights = (config.get("weight_tensor_config") or {}).get("num_bits", 32)
    activations = (config.get("activation_tensor_config") or {}).get("num_bits", 32)
    if weights <= 4:
        return VARIANTS["weight_int4"]
    if activations <= 8:
        return VARIANTS["int8"]
    return VARIANTS["weight_int8"] if weights <= 8 else VARIANTS["float32"]


def installed() -> bool:
    """Whether ai-edge-quantizer is there."""
    return importlib.util.find_spec("ai_edge_quantizer") is not None


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"ai_edge_quantizer.{name}")
    except ImportError as error:
        raise ConversionError(
            "this variant needs the package ai-edge-quantizer: pip install ai-edge-quantizer, "
            "or install keras-nns[quantize]."
        ) from error


def batches(chosen: list[Array], names: Sequence[str], size: int) -> Iterator[dict[str, Array]]:
    """Cut samples into batches by input name, the last one filled up to the full size."""
    for start in range(0, len(chosen[0]), size):
        index = np.minimum(np.arange(start, start + size), len(chosen[0]) - 1)
        yield {name: array[index] for name, array in zip(names, chosen, strict=True)}
