"""The main job from end to end: a model, its activity, networks, proofs, files, a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import keras

from keras_nns.callbacks.monitor import ActivityMonitor
from keras_nns.data.batches import as_batches
from keras_nns.data.named import Splits, load_dataset
from keras_nns.data.order import check_splits
from keras_nns.errors import SelectionError, SurgeryError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.files.folders import replacing_folder, safe_names
from keras_nns.observation.activity import Activity
from keras_nns.observation.streaming import observe
from keras_nns.plans.keep_rules import above
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Layout
from keras_nns.progress import Part, Verbose, job
from keras_nns.reporting.interactive import publish
from keras_nns.reporting.operation import PARENT_FILE, Operation, file_paths, operation_of
from keras_nns.reporting.side_by_side import (
    FLOAT,
    MERGED,
    PAPER,
    SAME,
    SMALL,
    TENTH,
    Contender,
    Contest,
    contest,
    judge,
)
from keras_nns.selection.activations import mean_activation
from keras_nns.selection.choosing import select
from keras_nns.shipping.tflite_files import labelled_samples
from keras_nns.surgery.lineage import save_model
from keras_nns.surgery.loading import load_model

MADE = (
    "parent.keras",
    "parent.tflite",
    "activity.npz",
    "plans/*.json",
    "subnetworks/*.keras",
    "tflite/*.tflite",
    "merged.json",
    "merged.keras",
    "merged.tflite",
    "merged_int8.tflite",
    "paper/*.tflite",
    "same/*.tflite",
    "report.md",
    "report.html",
    "figures/*.png",
    "results.json",
)
"""Every file that the demo writes."""

_FORMAT = "keras_nns.results"
_PROVING = 100
_CONFIDENCE = 0.95
"""Samples of the training part on which cuts are proven and files verified."""

_BATCH = 32
_SAMPLES_TRAINED_ON = 45_000
_EPOCHS = (5, 30)
"""As many epochs as make up so many samples, within these limits. Fixed, not tuned to a result."""

_ZETA = 0.4
"""The paper's."""

_LARGEST_FLATTENED = 8 * 8
_SMALLEST_CONVOLVED = 16


@dataclass(frozen=True, eq=False)
class Demo:
    """What a run of the demo did.

    Attributes:
        contest: The paper's networks beside ours, as files on held-out samples.
        operation: Ours of a tenth and the merged one, and what is known about them.
        data: What the model was trained, observed and judged on.
        still: Why nothing on the page can be played with; empty where it can.
    """

    contest: Contest
    operation: Operation
    data: Splits
    still: str = ""


def run_demo(
    dataset: str | PathLike[str] = "digits",
    *,
    output: str | PathLike[str] = "nns_demo",
    model: str | PathLike[str] | None = None,
    zeta: float = _ZETA,
    seed: int = 0,
    epochs: int | None = None,
    overwrite: bool = False,
    unsafe: bool = False,
    verbose: Verbose = "auto",
) -> Demo:
    """Watch a network label by label; make a network for each label and one for all; write it all.

    A small network is trained on the data's training part with `ActivityMonitor` in place. For each
    label the network of the paper's rule is cut from it, and beside it stand what `extract` makes
    of the same size and of a tenth, repaired; and one for all labels with half the parameters. The
    cuts are proven equal to the masked parent, files in float32 and int8 are verified, and all are
    judged as files on the held-out part, which is used for the figures alone. `output` is written
    whole when everything is done, or not at all.

    Args:
        dataset: As `load_dataset` takes it.
        output: The folder to write.
        model: A `.keras` or `.h5` file to operate on instead of training.
        zeta: The paper's ζ: share of the highest mean activation from which a unit is kept, in
            [0, 1].
        seed: Seed of the training. Sets the seeds of Python, NumPy and TensorFlow.
        epochs: How often to go through the training part; by default as often as its size asks for.
        overwrite: Whether an earlier run's folder may be replaced.
        unsafe: Whether code in `model` (Lambda layers) may run.
        verbose: As in `extract`.

    Raises:
        FileError: The folder is in the way or cannot be written; a file is missing or damaged.
        DataError: The data does not fit the model.
        ModelError: The model has no graph to read.
        SurgeryError: Nothing of the model can be removed; the message says why.
        SelectionError: `zeta` or `epochs` makes no sense, or a label has no samples.
        ProofError: A cut is not exact.
        tflite_export.ExportError: A network cannot be exported.
    """
    rule = above(zeta)  # refuse a share that makes no sense before any work
    if epochs is not None and epochs < 1:
        raise SelectionError(f"`epochs` must be 1 or more. Received: epochs={epochs}.")
    with replacing_folder(output, made=MADE, overwrite=overwrite) as folder, job(verbose) as shown:
        shown.expect(
            watch=Part("training and watching", 2),
            networks=Part("making networks", 8),
            judge=Part("making files and judging", 5),
            write=Part("writing", 3),
        )
        with shown.part("watch"):
            data, parent, activity, note = _watched(dataset, model, seed, epochs, unsafe=unsafe)
        refuse_uncuttable(activity.layout, parent.name)
        notes = [*_notes(data), note, *_left_whole(activity)]
        train = (data.x_train, data.y_train)
        with shown.part("networks"):
            plans = select(activity, "each", score=mean_activation, keep=rule)
            found = contest(parent, plans, train, label_names=data.label_names, seed=seed)
        with shown.part("judge"):
            test = as_batches(data.x_test, data.y_test, model=parent, label_names=data.label_names)
            judge(found, test, confidence=_CONFIDENCE)
            samples = labelled_samples(parent, train, _PROVING)[0]
            said = [*notes, *found.notes]
            done = operation_of(found, activity, samples, notes=said, seen=train, zeta=zeta)
        with shown.part("write"):
            _save(found, activity, plans, folder)
            settings = {
                "dataset": data.name,
                "model": None if model is None else str(model),
                "zeta": zeta,
                "seed": seed,
            }
            _save_results(done, found, settings, folder)
            page = publish(done.record, folder)
    return Demo(found, done, data, page.still)


def _watched(
    dataset: str | PathLike[str],
    model: str | PathLike[str] | None,
    seed: int,
    epochs: int | None,
    *,
    unsafe: bool,
) -> tuple[Splits, keras.Model, Activity, str]:
    """Train a network, or load one, and observe it."""
    if model is None:
        data = load_dataset(dataset)
        return data, *trained_on(data, seed, epochs)
    parent = load_model(model, unsafe=unsafe)
    data = load_dataset(dataset, **image_options(parent))
    check_splits(parent, data)
    activity = observe(parent, data.x_train, data.y_train, label_names=data.label_names)
    note = (
        "The model came from a file. If it was trained on some of the held-out samples, the "
        "figures flatter it."
    )
    return data, parent, activity, note


def small_network(data: Splits, *, name: str) -> keras.Model:
    """Build a small untrained network for a data set: convolutions for images, else dense layers.

    Args:
        data: What it shall learn.
        name: Name of the model.
    """
    layers = keras.layers
    shape, labels = data.x_train.shape[1:], len(data.label_names)
    hidden: list[Any]
    if len(shape) == 3 and min(shape[:2]) >= _SMALLEST_CONVOLVED:
        hidden = [
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_1"),
            layers.MaxPooling2D(name="pool_1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_2"),
            layers.MaxPooling2D(name="pool_2"),
        ]
        small = (shape[0] // 4) * (shape[1] // 4) <= _LARGEST_FLATTENED
        hidden.append(
            layers.Flatten(name="flatten")
            if small
            else layers.GlobalAveragePooling2D(name="average")
        )
    else:
        hidden = [layers.Flatten(name="flatten")] if len(shape) > 1 else [_normalization(data)]
        hidden.append(layers.Dense(64, activation="relu", name="hidden_1"))
    hidden.append(layers.Dense(64, activation="relu", name="hidden_2"))
    answer = "softmax" if data.y_train.ndim == 1 else "sigmoid"
    hidden.append(layers.Dense(labels, activation=answer, name="answer"))
    return keras.Sequential([keras.Input(shape, name="input"), *hidden], name=name)


def refuse_uncuttable(layout: Layout, name: str) -> None:
    """Raise where no unit of a model can be removed, with the reasons.

    Args:
        layout: The model's unit groups.
        name: The model's name.

    Raises:
        SurgeryError: There is nothing to remove.
    """
    if layout.prunable:
        return
    raise SurgeryError(f"No unit of model {name!r} can be removed: {layout.why_whole()}.")


def image_options(model: keras.Model) -> dict[str, Any]:
    """Say how images must come for a model: its height, width and channels.

    Args:
        model: The model.

    Returns:
        Options of `load_dataset`; none where the model does not take one image.
    """
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return {}
    _, height, width, channels = shapes[0]
    size = None if height is None or width is None else (height, width)
    return {"image_size": size, "channels": channels}


def trained_on(data: Splits, seed: int, epochs: int | None) -> tuple[keras.Model, Activity, str]:
    """Train a small network on a data set, watched when training ends.

    Args:
        data: What it learns.
        seed: Seed of Python, NumPy and TensorFlow.
        epochs: How often to go through the training part; None by its size.

    Returns:
        The network, its activity, and a sentence on both.
    """
    keras.utils.set_random_seed(seed)
    stem = safe_names([data.name])[0]
    parent = small_network(data, name=f"{stem}_network")
    several = data.y_train.ndim == 2
    loss = "binary_crossentropy" if several else "sparse_categorical_crossentropy"
    parent.compile("adam", loss)
    if epochs is None:
        low, high = _EPOCHS
        epochs = min(max(round(_SAMPLES_TRAINED_ON / len(data.x_train)), low), high)
    monitor = ActivityMonitor(
        data=(data.x_train, data.y_train), label_names=data.label_names, every=epochs
    )
    targets = data.y_train.astype("float32") if several else data.y_train
    parent.fit(
        data.x_train, targets, batch_size=_BATCH, epochs=epochs, verbose=0, callbacks=[monitor]
    )
    note = (
        f"The network was trained here: {epochs} epochs of Adam in batches of {_BATCH}, seed "
        f"{seed}, nothing tuned on the held-out part. It was watched on its training samples when "
        "training ended."
    )
    return parent, monitor.activity, note


def _normalization(data: Splits) -> Any:
    layer = keras.layers.Normalization(name="normalize")
    layer.adapt(data.x_train)
    return layer


def _notes(data: Splits) -> Sequence[str]:
    return (
        f"The data is {data.name}: {len(data.x_train):,} samples to train and observe on, "
        f"{len(data.x_test):,} held out.",
        *data.notes,
    )


def _left_whole(activity: Activity) -> list[str]:
    """Say which watched layers cannot lose a unit, and why."""
    return [
        f"Layer {layer} was left whole: {'; '.join(group.reasons)}."
        for layer in activity.layers
        for group in [activity.layout.of_layer(layer)[0]]
        if not group.prunable
    ]


def _save(found: Contest, activity: Activity, plans: Sequence[Plan], folder: Path) -> None:
    save_model(found.parent.model, folder / "parent.keras")
    atomic.write_bytes(folder / PARENT_FILE, found.parent.files[FLOAT].flat)
    activity.save(folder / "activity.npz")
    (merged,) = found.of(MERGED).values()
    paths = file_paths(found)
    for name, one in found.of(TENTH).items():
        safe = PurePosixPath(paths[TENTH, name]).stem
        _save_network(one, folder, f"plans/{safe}", f"subnetworks/{safe}", f"tflite/{safe}")
        for way in (PAPER, SAME):
            atomic.write_bytes(folder / paths[way, name], found.of(way)[name].files[FLOAT].flat)
    _save_network(merged, folder, "merged", "merged", "merged")


def _save_network(one: Contender, folder: Path, plan: str, model: str, flat: str) -> None:
    one.plan.save(folder / f"{plan}.json")
    save_model(one.model, folder / f"{model}.keras")
    for variant, ending in ((FLOAT, ""), (SMALL, "_int8")):
        atomic.write_bytes(folder / f"{flat}{ending}.tflite", one.files[variant].flat)


def _save_results(done: Operation, found: Contest, settings: Json, folder: Path) -> None:
    content = {
        "format": _FORMAT,
        "version": 2,
        "settings": settings,
        "side_by_side": found.to_json(),
        **done.to_json(),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write_bytes(folder / "results.json", text.encode())
