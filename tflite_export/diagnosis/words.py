"""Why a file was refused, and what would do instead, in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tflite_export.diagnosis.layers import departure
from tflite_export.diagnosis.other_variants import passing
from tflite_export.errors import FlatbufferError
from tflite_export.flatbuffer.container import parse
from tflite_export.keras_model.source import kernels, predict, source
from tflite_export.operators import anatomy
from tflite_export.running.outcome import Verification
from tflite_export.running.resemblance import resemblance

Array = np.ndarray[Any, Any]

_MIXED = 1e-3
"""How far an answer may be from itself in another batch, of the largest: far above rounding."""


def mixed(model: Any, samples: Any, values: Sequence[Array]) -> str | None:
    """Say that a model answers a sample by the others of its batch; `None` where it does not.

    Args:
        model: The Keras model.
        samples: As the caller gave them.
        values: The same, one array of shape (samples, ...) per input.
    """
    origin = source(model, samples=samples)
    alone = predict(origin, [value[:1] for value in values])
    for one, whole in zip(alone, predict(origin, values), strict=True):
        scale = float(np.abs(whole).max(initial=0.0)) or 1.0
        if float(np.abs(one[0] - whole[0]).max(initial=0.0)) > _MIXED * scale:
            return (
                "The model answers a sample by the others of its batch: alone, the first is "
                "answered otherwise in Keras too. A file is given one sample at a time, so let no "
                "layer go over the batch axis."
            )
    return None


def foreign(flat: bytes, model: Any, variant: str) -> str | None:
    """Say that a file holds another model's weights; `None` where they are this model's.

    Args:
        flat: The flatbuffer.
        model: The Keras model.
        variant: The file's variant.
    """
    told = resemblance(parse(flat), kernels(model))
    if told.missing and not told.found:
        return (
            "The file was converted from another model or other weights: it does not hold the "
            f"kernel of layer {told.missing[0]!r}."
        )
    if not told.found or told.missing:
        return (
            "The file was converted from another model or other weights, or the variant is too "
            "coarse for this model, or was calibrated on unlike samples."
        )
    if variant == "float32":
        return (
            "The file's kernels are this model's or nearly so, and the difference is more than "
            "float32 rounds: convert again if the model was trained since."
        )
    return None


def coarse(
    flat: bytes,
    model: Any,
    samples: Any,
    targets: Any,
    *,
    variant: str,
    values: Sequence[Array],
    passes: Callable[[bytes], bool],
) -> str:
    """Say where a variant is too coarse for a model, and which other one passes.

    Args:
        flat: The flatbuffer, with this model's weights.
        model: The Keras model.
        samples: What both were compared on.
        targets: Their labels, where known.
        variant: The file's variant, or `recipe:` and one.
        values: The samples as the file takes them.
        passes: Whether another file would be accepted.
    """
    layer, place = _place(flat, model, values)
    said = (
        "The file holds this model's weights: the variant is too coarse for it, or was calibrated "
        f"on unlike samples. {place}"
    )
    micro = anatomy(flat).runs_on_micro
    others = passing(model, samples, targets, instead_of=variant, passes=passes, micro=micro)
    for name, size in others[:1]:
        said += f" Tried on these samples, quantize={name!r} passes, with {size:,} bytes."
    for name, size in others[1:]:
        said += f" On TFLite Micro, which does not run that, {name!r} passes ({size:,} bytes)."
    recipe = {"*": variant.removeprefix("recipe:"), layer: "float32"}
    return (
        f"{said} Or try a recipe that leaves that layer alone, such as {recipe}, or more samples."
    )


def _place(flat: bytes, model: Any, values: Sequence[Array]) -> tuple[str, str]:
    """The layer where it begins, and a sentence about it; else the one with the widest kernel."""
    try:
        found = departure(flat, model, values)
    except (FlatbufferError, ValueError, RuntimeError):
        # A layer of the user's own, or a file that LiteRT runs with its delegate alone.
        found = None
    if found is not None:
        return found.layer, (
            f"The difference grows most at layer {found.layer!r}: to {found.rms:.2g} of its units' "
            f"scale, from {found.before:.2g} before it."
        )
    reach = {
        name: float(np.abs(kernel.values).max(initial=0.0))
        for name, kernel in kernels(model).items()
    }
    middle = float(np.median(list(reach.values())))
    widest = max(reach, key=lambda name: reach[name])
    return widest, (
        f"Its widest kernel is that of layer {widest!r}, with weights up to {reach[widest]:.3g} "
        f"where the middle layer's reach {middle:.3g}."
    )


def accepting(result: Verification) -> str:
    """How a file as it is would be accepted.

    Args:
        result: What was found of it.
    """
    accepted = result.tolerance
    needed = {
        "largest": (result.relative, accepted.largest),
        "rms": (result.rms, accepted.rms),
    }
    values = [
        f"{name}={_above(size)}" for name, (size, limit) in needed.items() if not size <= limit
    ]
    tokens = result.tokens
    if tokens is not None and not tokens.ratio <= accepted.perplexity:
        values.append(f"perplexity={_above(tokens.ratio)}")
    agreement = result.agreement
    if agreement is not None and agreement < accepted.agreement:
        values.append(f"agreement={math.floor(1000 * agreement) / 1000:g}")
    shell = " ".join(f"--tolerance {value}" for value in values)
    return (
        f"To accept it as it is: tolerance=Tolerance({', '.join(values)}), or in a shell {shell}."
    )


def _above(size: float) -> str:
    """A number with two digits that is not below another."""
    if not math.isfinite(size):
        return "inf"
    step = 10.0 ** (math.floor(math.log10(size)) - 1)
    return f"{math.ceil(size / step) * step:.2g}"
