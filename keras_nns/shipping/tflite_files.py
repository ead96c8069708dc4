"""What goes along with a network that is shipped: its record inside the file, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import keras
import numpy as np
from numpy.typing import NDArray

import tflite_export
from keras_nns.data.batches import unweighted
from keras_nns.data.outputs import output_keys
from keras_nns.data.scale import check_first_batch
from keras_nns.errors import DataError, FileError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import functional, is_graph
from keras_nns.judgement.question import question_of
from keras_nns.observation.forward import parents_batches
from keras_nns.shipping.spread import Spread
from keras_nns.surgery.lineage import (
    RECORD,
    Origin,
    answering_output,
    answering_place,
    origin_from,
    origin_of,
    set_lineage,
    without_samples,
)
from keras_nns.tables import UNDEFINED, Table
from tflite_export.recipes import Recipe

Names = tuple[str, ...] | dict[str, tuple[str, ...]]
"""What outputs are called in a file: the answers of the only one, or of each by its name."""

Labelled = tuple[Any, NDArray[Any] | None, tuple[str, ...]]
"""Inputs, the parent's label of each where known, and the names of all the parent's labels."""


class Extras(TypedDict):
    """What a file holds beside the network, as `tflite_export.convert` takes it.

    Attributes:
        labels: What its outputs are called.
        files: What is packed.
    """

    labels: Names | None
    files: dict[str, Json]


def extras(model: keras.Model, label_names: Sequence[str] = ()) -> Extras:
    """Return what goes into the file of a network that is shipped, beside the network.

    Args:
        model: A parent or a subnetwork.
        label_names: Name of each output of a parent; a subnetwork remembers its own.
    """
    return {"labels": answer_names(model, label_names), "files": packed(model)}


def packed(model: keras.Model) -> dict[str, Json]:
    """Return what `tflite_export.convert(files=...)` packs with a model.

    Args:
        model: A parent or a subnetwork.

    Returns:
        The subnetwork's lineage, with its plan: which units, for which labels, by which score and
        rule, without sketches of samples. Nothing for a parent.
    """
    origin = origin_of(model)
    return {} if origin is None else {RECORD: without_samples(origin).to_json()}


def answer_names(model: keras.Model, label_names: Sequence[str] = ()) -> Names | None:
    """Name what a model's outputs answer, as `tflite_export.convert` takes labels.

    Args:
        model: A parent or a subnetwork.
        label_names: Name of each output of a parent; a subnetwork remembers its own.

    Returns:
        The names, by output where the model has several; None where there is not one for each
        value of the output that answers.
    """
    origin = origin_of(model)
    names = tuple(label_names) if origin is None else origin.label_names
    if not is_graph(model):
        return names or None
    whole = functional(model)
    outputs = dict(zip(whole.output_names, whole.outputs, strict=True))
    if len(outputs) == 1:
        (only,) = outputs.values()
        return names if names and only.shape[-1] == len(names) else None
    if answering_output(model, origin) is None:
        return None
    return {output_keys(whole)[answering_place(model, origin)]: names}


def packed_origin(metadata: tflite_export.Metadata) -> Origin | None:
    """Return where the network in a `.tflite` file was cut from, or None for one that was not cut.

    Args:
        metadata: What `tflite_export.read_metadata` gave.

    Raises:
        FileError: The record in the file is damaged.
    """
    content = metadata.files.get(RECORD)
    return None if content is None else origin_from(atomic.parse_json(content))


def reading_model(flat: bytes) -> keras.Model:
    """Build an untrained network with the ends of a `.tflite` file, to read its data by.

    Args:
        flat: A file with one input and one output.

    Raises:
        FileError: It has several, or open sizes.
    """
    parts = tflite_export.anatomy(flat)
    shapes = [*parts.inputs.values(), *parts.outputs.values()]
    if len(shapes) != 2 or any(size < 1 for shape in shapes for size in shape[1:]):
        raise FileError(
            "Data can be read for a `.tflite` file with one input and one output of known shapes. "
            f"This one has {dict(parts.inputs)} and {dict(parts.outputs)}. Name its `.keras` model."
        )
    inputs = keras.Input(shapes[0][1:])
    flattened = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(shapes[1][-1])(flattened))
    origin = packed_origin(tflite_export.read_metadata(flat))
    if origin is not None:
        # The data's labels are those of the parent.
        set_lineage(model, origin)
    return model


def labelled_samples(
    model: keras.Model, data: Any, count: int, *, label_names: Sequence[str] | None = None
) -> Labelled:
    """Take labelled samples out of data, spread over the whole of it: it is often sorted by label.

    Args:
        model: The model that the data is for.
        data: As `as_batches` takes it, with the parent's labels; read once, batch by batch.
        count: How many samples, if there are so many.
        label_names: Name of every label, where the data does not tell.

    Returns:
        Inputs as the model takes them; labels; names of all the parent's labels.

    Raises:
        DataError: The data does not fit the model.

    Warns:
        DataWarning: A parent answers the samples by chance.
    """
    origin = origin_of(model)
    batches = parents_batches(model, origin, data, None, batch_size=256, label_names=label_names)
    spread = Spread(count)
    for batch in unweighted(batches, "What is shipped"):
        spread.add(batch)
    inputs, labels = spread.taken()
    if origin is None:
        check_first_batch(model, inputs, labels)
    return inputs, labels, tuple(batches.label_names)


def own_samples(
    origin: Origin | None,
    inputs: Any,
    labels: NDArray[Any],
    *,
    label_names: Sequence[str],
    outputs: int,
    name: str,
) -> tuple[Any, NDArray[Any]]:
    """Choose the samples of labels that a network knows, with its right answer to each.

    Args:
        origin: Where the network comes from; None for a parent.
        inputs: Samples.
        labels: The parent's label of each, `(samples,)`.
        label_names: Names of all the parent's labels.
        outputs: Number of the network's outputs.
        name: What the caller calls the network, for errors.

    Returns:
        The samples; the position of the right answer of each, 0 or 1 for one probability.

    Raises:
        DataError: The outputs are not as many as the answers, or it knows none of the labels.
    """
    truth = question_of(origin, label_names, outputs, name).truth(labels)
    own = truth.any(axis=1)
    if not own.any():
        raise DataError(f"None of the samples is of a label that {name!r} knows.")
    return _rows(inputs, own), truth[own].argmax(axis=1)


def own_answers(model: keras.Model, measured: Labelled) -> tuple[Any, NDArray[Any] | None]:
    """Take of labelled samples those that a network is asked about, with its right answers.

    Args:
        model: A parent or a subnetwork.
        measured: Samples with the parent's labels.

    Returns:
        The samples of labels that the network knows, and the position of the right answer of each;
        all of them and None where no single output answers.

    Raises:
        DataError: The samples do not fit.
    """
    samples, labels, label_names = measured
    outputs = functional(model).outputs if is_graph(model) else []
    if labels is None or labels.ndim != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        return samples, None
    return own_samples(
        origin_of(model),
        samples,
        labels,
        label_names=label_names,
        outputs=outputs[0].shape[-1],
        name=model.name,
    )


def to_variant(
    model: keras.Model,
    quantize: str | Recipe,
    measured: Labelled | None = None,
    *,
    label_names: Sequence[str] = (),
) -> bytes:
    """Convert a model to a variant, its record packed inside.

    Args:
        model: A parent or a subnetwork.
        quantize: The variant's name, or a recipe.
        measured: Samples to measure ranges on, for variants that need it. A network of some
            labels is measured on those, the same share of each.
        label_names: Name of each output of a parent; a subnetwork remembers its own.

    Raises:
        DataError: The samples do not fit.
        tflite_export.ExportError: There is no such file.
    """
    samples, targets = (None, None) if measured is None else own_answers(model, measured)
    return tflite_export.convert(
        model,
        quantize=quantize,
        samples=samples,
        targets=targets,
        **extras(model, label_names),
    )


def device_card(
    flats: Mapping[str, bytes],
    inputs: Any = None,
    labels: NDArray[Any] | None = None,
    *,
    label_names: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    seconds: float = 0.5,
    runtimes: Sequence[str] = ("litert",),
    target: str | None = None,
) -> tflite_export.Card:
    """Measure `.tflite` files side by side, each judged by its own question.

    Args:
        flats: The files by name, the parent first.
        inputs: Samples as the models take them; zeros are timed where there are none.
        labels: The parent's label of each, `(samples,)`; without them nothing is judged. A file
            that knows only some labels is judged among those.
        label_names: Names of all the parent's labels.
        threads: Numbers of CPU threads to measure latency with.
        seconds: How long to measure each file with each number of threads.
        runtimes: Runtimes to ask, as `tflite_export.card` takes them.
        target: An NPU to ask, in the same way.

    Raises:
        DataError: The labels are not one number for each sample, or a file has other outputs.
        FileError: A record in a file is damaged.
        tflite_export.ExportError: A file is damaged, or the samples do not fit it.

    Example:
        >>> names = list("0123456789")
        >>> made = device_card({"int8": flat}, x_test, y_test, label_names=names, seconds=0.05)
        >>> [row.name for row in made.rows]
        ['int8']
    """
    if labels is not None and labels.ndim != 1:
        raise DataError(
            "A deployment card tells accuracy for samples of one label each. The data has "
            "none or several: leave it out."
        )
    rows: list[tflite_export.CardRow] = []
    for name, flat in flats.items():
        samples, targets = inputs, None
        if labels is not None:
            width = next(iter(tflite_export.anatomy(flat).outputs.values()))[-1]
            samples, targets = own_samples(
                packed_origin(tflite_export.read_metadata(flat)),
                inputs,
                labels,
                label_names=label_names,
                outputs=width,
                name=name,
            )
        rows += tflite_export.card(
            {name: flat},
            samples,
            targets=targets,
            threads=threads,
            seconds=seconds,
            runtimes=runtimes,
            target=target,
        ).rows
    return tflite_export.Card(tuple(rows))


def card_table(card: tflite_export.Card) -> Table:
    """Return what files cost on the device as a table for a page, one file per row.

    Args:
        card: What `device_card` measured.
    """
    columns = ("file", "bytes", "of gzip", "multiply-adds", "arena bytes, at least", "operators")
    shown = [f"µs, {t.threads} thread{'s' * (t.threads > 1)}" for t in card.rows[0].latency]
    rows = tuple(
        (
            row.name,
            f"{row.bytes:,}",
            f"{row.gzip_bytes:,}",
            _whole(row.anatomy.multiply_adds),
            _whole(row.anatomy.activation_bytes),
            str(sum(row.anatomy.operators.values())),
            *(f"{time.p50:,.1f} ({time.p95:,.1f})" for time in row.latency),
        )
        for row in card.rows
    )
    return Table((*columns, *shown), rows)


def _rows(tree: Any, chosen: Any) -> Any:
    return keras.tree.map_structure(lambda array: np.asarray(array)[chosen], tree)


def _whole(value: int | None) -> str:
    return UNDEFINED if value is None else f"{value:,}"
