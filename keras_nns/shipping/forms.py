"""The form in which networks ship: a variant of `.tflite`, measured on samples of their own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import tflite_export
from keras_nns.data.outputs import output_place
from keras_nns.graph.keras_internals import functional
from keras_nns.shipping.tflite_files import Labelled, extras, own_answers
from tflite_export.cli.options import measures
from tflite_export.keras_model.samples import arrays
from tflite_export.keras_model.source import generated, source
from tflite_export.recipes import Recipe, loosest
from tflite_export.running.comparison import answers_of, matched
from tflite_export.running.interpreter import Runner
from tflite_export.variants import variant

Quantization = str | Recipe
"""The name of a variant of `.tflite`, or a recipe."""

_MOST, _LEAST = 500, 100
"""Samples that ranges are measured and files verified on."""

_BYTES = 2**26
"""They are fewer where they would take more than this."""

_GENERATED = 8


class Form:
    """How networks of one parent ship.

    Args:
        quantize: The variant's name, or a recipe; None where no file was asked for. Then files
            are float32.
        take: Gives samples with the parent's labels to measure ranges and to verify files on. It
            is called once, when the first file needs them.
        divisor: What pixels in files are divided by before the model is given them, for the
            metadata (`Batches.divisor`).

    Attributes:
        quantize: As given.
        variant: Name of the variant; that of a recipe starts with "recipe:".

    Raises:
        tflite_export.OptionError: There is no such variant.
    """

    def __init__(
        self,
        quantize: Quantization | None = None,
        take: Callable[[], Labelled | None] | None = None,
        *,
        divisor: float | None = None,
    ) -> None:
        self.quantize = quantize
        self._take = take
        self._divisor = divisor
        if quantize is None or isinstance(quantize, str):
            self.variant = variant(quantize).name
        else:
            self.variant = f"recipe:{loosest(quantize).name}"

    def of(self, quantize: Quantization) -> Form:
        """Return the form of another variant, measured on the same samples."""
        return Form(quantize, lambda: self.samples, divisor=self._divisor)

    @cached_property
    def samples(self) -> Labelled | None:
        """What ranges are measured and files verified on; None where there is nothing."""
        return None if self._take is None else self._take()

    def file(self, model: keras.Model) -> bytes:
        """Make the file of a network that ships: labels, record and scale of pictures inside.

        Args:
            model: A parent or a subnetwork.

        Raises:
            DataError: The samples do not fit.
            tflite_export.ExportError: There is no such file.
        """
        if not self._measures:
            return self._converted(model)
        assert self.samples is not None
        samples, targets = own_answers(model, self.samples)
        return self._converted(model, samples, targets)

    def sized(self, model: keras.Model, *, run: bool = False) -> bytes:
        """Make a file of the same size, before any data is read: its ranges are made up.

        Args:
            model: A network, or one of the same shape.
            run: Whether it will be run. One that is only measured need not be one that LiteRT
                loads: the smallest network there can be often is none, and does not ship.

        Raises:
            tflite_export.ExportError: There is no such file.
        """
        try:
            return self._sized(model)
        except tflite_export.ConversionError as error:
            if run or error.flat is None:
                raise
            return error.flat

    def _sized(self, model: keras.Model) -> bytes:
        if not self._measures:
            return self._converted(model)
        made_up = generated(source(model), _GENERATED)
        with warnings.catch_warnings():
            # Of course they are few, and miss labels.
            warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
            return self._converted(model, made_up if len(made_up) > 1 else made_up[0])

    @property
    def _measures(self) -> bool:
        return measures(self.quantize or "float32")

    def _converted(self, model: keras.Model, samples: Any = None, targets: Any = None) -> bytes:
        scale = None
        if self._divisor is not None:
            scale = tflite_export.Normalization(mean=(0.0,), std=(self._divisor,))
        return tflite_export.convert(
            model,
            quantize=self.quantize,
            samples=samples,
            targets=targets,
            normalization=scale,
            **extras(model),
        )


class Shipped:
    """The `.tflite` file of a network, made when it is first asked for.

    Args:
        model: The network.
        form: How it ships.

    Attributes:
        model: The network.
        form: How it ships.
    """

    def __init__(self, model: keras.Model, form: Form) -> None:
        self.model = model
        self.form = form

    @cached_property
    def flat(self) -> bytes:
        """The bytes of the file."""
        return self.form.file(self.model)

    @cached_property
    def refusal(self) -> tflite_export.VerificationError | None:
        """Why the file does not answer as its network; None where it does (`verification`)."""
        try:
            _ = self.verification
        except tflite_export.VerificationError as error:
            return error
        return None

    @cached_property
    def verification(self) -> tflite_export.Verification:
        """How far the file's answers are from the network's.

        Raises:
            tflite_export.VerificationError: Too far.
        """
        if self.form.samples is None:
            made_up = generated(source(self.model), _LEAST)
            samples = made_up if len(made_up) > 1 else made_up[0]
        else:
            samples, _ = own_answers(self.model, self.form.samples)
        return tflite_export.verify(self.flat, self.model, samples)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the file, if it answers as its network.

        Args:
            path: Where to.
            overwrite: Whether an existing file may be replaced.

        Raises:
            tflite_export.VerificationError: It does not.
            tflite_export.ExportFileError: It cannot be written.
        """
        if self.refusal is not None:
            raise self.refusal
        return tflite_export.save(self.flat, path, overwrite=overwrite)


class FileForward:
    """A file's answers where those of its network are expected (`observation.Answering`).

    Args:
        model: The network.
        flat: The file.
        output: Name of the output that answers, where there are several.
    """

    def __init__(self, model: keras.Model, flat: bytes, output: str | None = None) -> None:
        self.model = model
        self._runner = Runner(flat)
        origin = source(model)
        self._ports = origin.inputs
        self._inputs = matched(self._runner.inputs, origin.inputs, "input", model.name)
        place = output_place(model, output) or 0
        ends = matched(self._runner.outputs, origin.outputs, "output", model.name)
        self._output = ends[place]

    def __call__(self, inputs: Any) -> NDArray[np.float32]:
        """Run the file on inputs in the network's own structure."""
        values = arrays(inputs, self._ports, tflite_export.OptionError)
        (answers,) = answers_of(self._runner, self._inputs, [self._output], values)
        return np.asarray(answers, dtype=np.float32)


def sample_count(model: keras.Model) -> int:
    """Return how many samples to measure ranges on: fewer where each is large.

    Args:
        model: The model that takes them.
    """
    shapes: Sequence[tuple[int | None, ...]] = [tensor.shape for tensor in functional(model).inputs]
    each = 4 * sum(math.prod(size or 1 for size in shape[1:]) for shape in shapes)
    return max(_LEAST, min(_MOST, _BYTES // max(each, 1)))
