"""What came of comparing a file with its model."""

from __future__ import annotations

from dataclasses import dataclass

from tflite_export.running.comparison import LabelFigures
from tflite_export.variants import Tolerance


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of the file is from the model's.

    Attributes:
        name: The output.
        absolute: Largest absolute difference.
        relative: The same as a share of `scale`.
        rms: Root mean square of the differences, as a share of `scale`.
        scale: Largest absolute value that the model answers on the samples.
        agreement: Share of samples with the same decision (the largest position; above 0.5
            for a single probability); `None` for an output that decides nothing.
        decisions: Number of decisions compared: one per sample, or per step or pixel.

    Example:
        >>> output = tflite_export.verify(flat, model, x_test).outputs[0]
        >>> output.name, output.decisions, output.agreement
        ('digit', 597, 0.9...)
    """

    name: str
    absolute: float
    relative: float
    rms: float
    scale: float
    agreement: float | None
    decisions: int = 0


@dataclass(frozen=True)
class LabelComparison:
    """One label's figures before and after the export.

    Attributes:
        model: What the Keras model reaches on the samples.
        file: What the file reaches on the same samples.

    Example:
        >>> three = tflite_export.verify(flat, model, x_test, targets=y_test).labels[3]
        >>> three.model.specificity, three.file.specificity
        (0.9..., 0.9...)
    """

    model: LabelFigures
    file: LabelFigures


@dataclass(frozen=True)
class TokenComparison:
    """What the next tokens of texts cost a language model, and its file.

    Perplexity is the exponential of the mean negative log likelihood of a token, in nats.

    Attributes:
        model: Perplexity of the Keras model.
        file: Perplexity of the file.
        tokens: How many tokens were foretold: of each text all that count but the first.

    Example:
        >>> small = tflite_export.convert(lm, quantize="dynamic")
        >>> found = tflite_export.verify(small, lm, texts[:40]).tokens
        >>> found.tokens, found.ratio < 1.05
        (440, True)
    """

    model: float
    file: float
    tokens: int

    @property
    def ratio(self) -> float:
        """How many times the model's perplexity the file's is."""
        return self.file / self.model


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a file with its model.

    Attributes:
        variant: The variant the file was converted as.
        samples: Number of samples compared.
        tolerance: What was accepted.
        outputs: One entry per output.
        labels: One entry per label, where targets were given.
        runtime: What ran the file.
        tokens: Perplexities of a language model and of its file; `None` for other models.
        computes_in: What the model computes in where that is not float32, such as `"float16"`. The
            file is compared with the model rebuilt in float32, as it was converted.

    Example:
        >>> found = tflite_export.verify(flat, model, x_test)
        >>> found.variant, found.samples, found.rms < 0.05
        ('int8', 597, True)
    """

    variant: str
    samples: int
    tolerance: Tolerance
    outputs: tuple[OutputDifference, ...]
    labels: tuple[LabelComparison, ...] = ()
    runtime: str = "litert"
    tokens: TokenComparison | None = None
    computes_in: str | None = None

    @property
    def absolute(self) -> float:
        """Largest absolute difference over all outputs."""
        return max(output.absolute for output in self.outputs)

    @property
    def relative(self) -> float:
        """Largest difference over all outputs, as a share of the output's scale."""
        return max(output.relative for output in self.outputs)

    @property
    def rms(self) -> float:
        """Largest root mean square over all outputs, as a share of the output's scale."""
        return max(output.rms for output in self.outputs)

    @property
    def agreement(self) -> float | None:
        """Lowest share of equal decisions over the outputs that decide; `None` if none does."""
        return min(
            (output.agreement for output in self.outputs if output.agreement is not None),
            default=None,
        )

    def __str__(self) -> str:
        """Say it in one line."""
        said = (
            f"{self.variant}, run by {self.runtime} on {self.samples:,} samples: largest "
            f"difference {self.absolute:.3g} ({self.relative:.2%} of the output's scale), "
            f"root mean square {self.rms:.2%}"
        )
        if self.agreement is not None:
            said += f"; {self.agreement:.2%} decided alike"
        if self.tokens is not None:
            said += f"; perplexity {self.tokens.file:.4g}, {self.tokens.model:.4g} in Keras"
        if self.computes_in is not None:
            said += f"; beside the model rebuilt in float32, which computes in {self.computes_in}"
        return said
