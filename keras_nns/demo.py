"""The main job from end to end: a model, its activity, networks, proofs, files, a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from keras_nns.callbacks.monitor import ActivityMonitor
from keras_nns.data.named import Splits, load_dataset
from keras_nns.errors import SelectionError, SurgeryError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.files.folders import replacing_folder, safe_names
from keras_nns.observation.activity import Activity
from keras_nns.observation.streaming import observe
from keras_nns.plans.keep_rules import above
from keras_nns.plans.units import Layout
from keras_nns.reporting.document import surgery_report, write
from keras_nns.reporting.operation import MERGED, PARENT, Operation, Tell, operate
from keras_nns.selection.activations import Score, contrast, name_of
from keras_nns.selection.choosing import select
from keras_nns.selection.tuning import LOSS, Tuning, choose_zeta
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

_APART = 0.2
"""Share of the training part on which ζ is chosen."""

_RAREST = 2
"""A label with fewer samples cannot be split in proportion."""

_LARGEST_FLATTENED = 8 * 8
_SMALLEST_CONVOLVED = 16


@dataclass(frozen=True, eq=False)
class Demo:
    """What a run of the demo did.

    Attributes:
        operation: The cut networks and what is known about them.
        data: What the model was trained, observed and judged on.
    """

    operation: Operation
    data: Splits


def run_demo(
    dataset: str | PathLike[str] = "digits",
    *,
    output: str | PathLike[str] = "nns_demo",
    model: str | PathLike[str] | None = None,
    zeta: float | None = None,
    score: Score = contrast,
    seed: int = 0,
    epochs: int | None = None,
    overwrite: bool = False,
    unsafe: bool = False,
    tell: Tell | None = None,
) -> Demo:
    """Watch a network label by label, cut one for each label and one for all; write all of it.

    A small network is trained on the data's training part with `ActivityMonitor` in place; units
    stay whose score is at least the share `zeta` of the highest; each cut is proven equal to its
    masked parent, exported and verified. Where `zeta` is not given it is chosen on a fifth of the
    training part that is neither trained on nor watched. The held-out part is used for the figures
    alone. `output` is written whole when everything is done, or not at all.

    Args:
        dataset: As `load_dataset` takes it.
        output: The folder to write.
        model: A `.keras` or `.h5` file to operate on instead of training.
        zeta: Share of the highest score from which a unit is kept, in [0, 1]; None chooses it.
        score: How much a label needs a unit. The paper's is `mean_activation`, with ζ 0.4 or 0.5.
        seed: Seed of the training. Sets the seeds of Python, NumPy and TensorFlow.
        epochs: How often to go through the training part; by default as often as its size asks for.
        overwrite: Whether an earlier run's folder may be replaced.
        unsafe: Whether code in `model` (Lambda layers) may run.
        tell: Called with what is being done.

    Raises:
        FileError: The folder is in the way or cannot be written; a file is missing or damaged.
        DataError: The data does not fit the model.
        ModelError: The model has no graph to read.
        SurgeryError: Nothing of the model can be removed; the message says why.
        SelectionError: `zeta` or `epochs` makes no sense, or a label has no samples.
        ProofError: A cut is not exact.
        tflite_export.ExportError: A network cannot be exported.

    Example:
        >>> run_demo("digits", output="nns_demo")  # doctest: +SKIP
    """
    if zeta is not None:
        above(zeta)  # refuse a share that makes no sense before any work
    if epochs is not None and epochs < 1:
        raise SelectionError(f"`epochs` must be 1 or more. Received: epochs={epochs}.")
    with replacing_folder(output, made=MADE, overwrite=overwrite) as folder:
        say = tell or _silently
        if model is None:
            say("training")
            data = load_dataset(dataset)
            used, apart = _set_apart(data, seed) if zeta is None else (data, None)
            parent, activity, note = trained_on(used, seed, epochs)
        else:
            say("observing")
            parent = load_model(model, unsafe=unsafe)
            data = load_dataset(dataset, **image_options(parent))
            used, apart = _set_apart(data, seed) if zeta is None else (data, None)
            activity = observe(parent, used.x_train, used.y_train, label_names=data.label_names)
            note = (
                "The model came from a file. If it was trained on some of the held-out samples, "
                "the figures flatter it."
            )
        refuse_uncuttable(activity.layout, parent.name)
        notes = [*_notes(data), note, *_left_whole(activity)]
        tuning = None
        if apart is not None:
            say("choosing how much to keep")
            tuning = choose_zeta(parent, activity, *apart, score=score)
            zeta = tuning.chosen
            notes.append(_choice(tuning))
        assert zeta is not None
        plans = select(activity, "each", score=score, keep=above(zeta))
        done = operate(
            parent,
            activity,
            plans,
            (data.x_test, data.y_test),
            samples=labelled_samples(parent, (data.x_train, data.y_train), _PROVING)[0],
            confidence=_CONFIDENCE,
            export=True,
            notes=notes,
            tell=say,
        )
        say("writing")
        _save(done, activity, folder)
        settings = {
            "dataset": data.name,
            "model": None if model is None else str(model),
            "score": name_of(score),
            "zeta": zeta,
            "zetas_tried": None if tuning is None else [asdict(trial) for trial in tuning.trials],
            "seed": seed,
        }
        _save_results(done, settings, folder)
        write(surgery_report(done.record), folder)
    return Demo(done, data)


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
    reasons = dict.fromkeys(reason for group in layout.groups for reason in group.reasons)
    why = "; ".join(list(reasons)[:5]) or "it has no hidden units"
    raise SurgeryError(f"No unit of model {name!r} can be removed: {why}.")


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


def _set_apart(data: Splits, seed: int) -> tuple[Splits, tuple[Any, Any]]:
    """Split the training part: what is trained on and watched, and what choices are made on."""
    labels = data.y_train if data.y_train.ndim == 1 else None
    rare = labels is not None and np.bincount(labels)[np.unique(labels)].min() < _RAREST
    x, x_apart, y, y_apart = train_test_split(
        data.x_train,
        data.y_train,
        test_size=_APART,
        random_state=seed,
        stratify=None if rare else labels,
    )
    return replace(data, x_train=x, y_train=y), (x_apart, y_apart)


def _choice(tuning: Tuning) -> str:
    tried = ", ".join(
        f"{trial.zeta:g} (keeps {trial.kept:.0%}, balanced accuracy {trial.balanced_accuracy:.3f})"
        for trial in tuning.trials
    )
    return (
        f"How much to keep was chosen on {tuning.samples:,} of the training samples that were "
        "neither trained on nor watched. ζ, the share of the highest score from which a unit "
        f"stays, was tried at {tried}; the parent has {tuning.parent:.3f} there. Taken: "
        f"{tuning.chosen:g}, the largest that costs at most {LOSS:g}, or else the best."
    )


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


def _save(done: Operation, activity: Activity, folder: Any) -> None:
    record = done.record
    save_model(record.parent, folder / "parent.keras")
    atomic.write_bytes(folder / "parent.tflite", done.tflite[PARENT])
    activity.save(folder / "activity.npz")
    names = safe_names([network.name for network in record.subnetworks])
    for name, network in zip(names, record.subnetworks, strict=True):
        network.plan.save(folder / "plans" / f"{name}.json")
        save_model(network.model, folder / "subnetworks" / f"{name}.keras")
        atomic.write_bytes(folder / "tflite" / f"{name}.tflite", done.tflite[network.name])
    if record.merged is not None:
        record.merged.plan.save(folder / "merged.json")
        save_model(record.merged.model, folder / "merged.keras")
        atomic.write_bytes(folder / "merged.tflite", done.tflite[MERGED])


def _save_results(done: Operation, settings: Json, folder: Any) -> None:
    content = {"format": _FORMAT, "version": 1, "settings": settings, **done.to_json()}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write_bytes(folder / "results.json", text.encode())


def _silently(text: str) -> None:
    """Tell nothing."""
