"""The export variants: one row each.

A row says how weights, arithmetic and the ends of the model are stored, which tool does it,
and how far the answers of the file may be from the model's. Tolerances live here and nowhere
else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tflite_export.errors import OptionError

__all__ = ["VARIANTS", "Tolerance", "Variant", "variant"]


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from its model before `verify` refuses it.

    Quantization moves single answers far where the model itself wavers, so the quantized
    variants are held by their root mean square and by their decisions, the exact ones by
    their largest difference.

    Attributes:
        largest: Largest difference, as a share of the output's scale (the largest absolute
            value that the model answers).
        rms: Root mean square of the differences, as a share of the same scale.
        agreement: Lowest share of samples with the same decision. One changed decision is
            always allowed: on few samples a share means nothing.
        perplexity: How many times the model's perplexity the file's may be. Only language models
            are held to it.

    Example:
        >>> within = tflite_export.Tolerance(rms=0.02, agreement=0.98)
        >>> tflite_export.verify(flat, model, x_test, tolerance=within).agreement
        0.9...
    """

    largest: float = math.inf
    rms: float = math.inf
    agreement: float = 0.0
    perplexity: float = math.inf

    def __post_init__(self) -> None:
        """Refuse what would let everything, or nothing, pass."""
        sizes = (self.largest, self.rms, self.perplexity)
        if not (all(size >= 0 for size in sizes) and 0 <= self.agreement <= 1):
            raise OptionError(
                "a tolerance needs largest, rms and perplexity of 0 or more and agreement from 0 "
                f"to 1. Received: {self}."
            )


@dataclass(frozen=True)
class Variant:
    """One way to store a model.

    Attributes:
        name: What `convert(quantize=...)` is given.
        summary: One line for people.
        tolerance: How far the file may be from the model.
        texts: The same for a language model, whose likeliest tokens are often close to each other;
            `None` where it is no other.
        weights: Type of the stored weights.
        activations: Type the operators compute with; "dynamic" means int8, with ranges taken
            anew on every call.
        ends: Type of the model's inputs and outputs.
        tool: "converter" for TensorFlow's, "quantizer" for ai-edge-quantizer.

    Example:
        >>> int8 = tflite_export.VARIANTS["int8"]
        >>> int8.summary, int8.needs_samples
        ('int8 weights, arithmetic, inputs and outputs', True)
    """

    name: str
    summary: str
    tolerance: Tolerance
    weights: str = "float32"
    activations: str = "float32"
    ends: str = "float32"
    tool: str = "converter"
    texts: Tolerance | None = None

    def accepts(self, *, texts: bool) -> Tolerance:
        """How far the file may be from the model, where that is a language model or not."""
        return self.texts if texts and self.texts is not None else self.tolerance

    @property
    def needs_samples(self) -> bool:
        """Whether the ranges of activations must be measured on samples."""
        return self.activations in ("int8", "int16")


_NEARLY, _COARSELY = Tolerance(perplexity=1.1), Tolerance(perplexity=2.0)

VARIANTS: dict[str, Variant] = {
    row.name: row
    for row in (
        Variant("float32", "float32 weights and arithmetic", Tolerance(largest=1e-5)),
        Variant(
            "float16",
            "float16 weights, float arithmetic",
            Tolerance(largest=2e-2, rms=2e-3, agreement=0.99),
            weights="float16",
        ),
        Variant(
            "dynamic",
            "int8 weights, activations quantized on the fly",
            Tolerance(rms=0.03, agreement=0.95),
            weights="int8",
            activations="dynamic",
            texts=_NEARLY,
        ),
        Variant(
            "int8",
            "int8 weights, arithmetic, inputs and outputs",
            Tolerance(rms=0.05, agreement=0.95),
            weights="int8",
            activations="int8",
            ends="int8",
            texts=_NEARLY,
        ),
        Variant(
            "int8_float",
            "int8 weights and arithmetic, float inputs and outputs",
            Tolerance(rms=0.05, agreement=0.95),
            weights="int8",
            activations="int8",
            texts=_NEARLY,
        ),
        Variant(
            "int16x8",
            "int8 weights, int16 arithmetic, float inputs and outputs",
            Tolerance(rms=0.03, agreement=0.95),
            weights="int8",
            activations="int16",
            texts=_NEARLY,
        ),
        Variant(
            "weight_int8",
            "int8 weights, float arithmetic",
            Tolerance(rms=0.03, agreement=0.95),
            weights="int8",
            tool="quantizer",
            texts=_NEARLY,
        ),
        Variant(
            "weight_int4",
            "int4 weights, float arithmetic",
            Tolerance(rms=0.1, agreement=0.9),
            weights="int4",
            tool="quantizer",
            texts=_COARSELY,
        ),
        Variant(
            "dynamic_int4",
            "int4 weights, activations quantized on the fly",
            Tolerance(rms=0.1, agreement=0.9),
            weights="int4",
            activations="dynamic",
            tool="quantizer",
            texts=_COARSELY,
        ),
    )
}
"""Every variant by the name that `convert(quantize=...)` takes.

Example:
    >>> list(tflite_export.VARIANTS)[:5]
    ['float32', 'float16', 'dynamic', 'int8', 'int8_float']
"""


def variant(quantize: str | None) -> Variant:
    """Look a variant up.

    Args:
        quantize: Its name; `None` means float32.

    Raises:
        OptionError: There is no such variant.

    Example:
        >>> variant(None).name
        'float32'
    """
    name = "float32" if quantize is None else quantize
    if name not in VARIANTS:
        known = ", ".join(repr(known) for known in VARIANTS)
        raise OptionError(f"unknown quantize={quantize!r}; expected None or one of {known}.")
    return VARIANTS[name]
