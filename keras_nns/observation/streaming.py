"""Observe: one streaming pass over data through the probing submodel."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from keras_nns.errors import DataError
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.in_passes import observe_in_passes
from keras_nns.observation.probing import Layers
from keras_nns.observation.watcher import Observer
from keras_nns.progress import Verbose


def observe(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    layers: Layers = None,
    statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
    threshold: float = 0.0,
    batch_size: int = 256,
    label_names: Sequence[str] | None = None,
    label_count: int | None = None,
    output: str | None = None,
    verbose: Verbose = "auto",
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int = 200,
    keep_checkpoint: bool = False,
    shard: tuple[int, int] | None = None,
    strategy: Any = None,
    memory: str | int | None = "auto",
) -> Activity:
    """Watch which units fire for which label, in one pass over data.

    The data streams through a probing submodel; statistics are summed inside the compiled step, so
    memory does not grow with the number of samples. The model is read in inference mode and not
    changed. A unit's value for one sample is the mean of its output, after its nonlinearity, over
    all positions (pixels, steps).

    Args:
        model: A built Sequential or functional `keras.Model`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator
            of batches, or the path of a folder of images per class, an `.npz` or IDX files.
        y: Labels, where `data` holds inputs only: numbers, names, one-hot or multi-hot.
        layers: Names of layers, or a function from a layer to a boolean. None watches every hidden
            layer with units.
        statistics: Some of `"fired"`, `"mean"`, `"variance"`, `"maximum"`, `"active"`,
            `"mean_square"`.
        threshold: A unit fired where its absolute value is above this.
        batch_size: Samples per step, where `data` is arrays.
        label_names: Name of every label, in the order of the model's outputs.
        label_count: How many labels there are, where the model's output does not tell.
        output: Name of the output that answers the labels, where the model has several: the data
            may then have the targets of all of them, as Keras's `fit` takes them.
        verbose: Whether to show a progress bar; `"auto"` on a terminal only.
        checkpoint: A file that keeps what has been summed so far. A run that was stopped half way
            goes on from it, given the same data in the same order, and ends with the same numbers.
            What was summed is read once more, not run, and refused where any of it is another.
            Removed when the pass is complete.
        checkpoint_every: Batches between two checkpoints.
        keep_checkpoint: Leave the file there, complete, when the pass is: to be deleted once the
            activity is safely written. A run that finds it gives the activity without running the
            model.
        shard: `(2, 8)` takes the second of eight shards of the data, the same on every machine, so
            that eight processes see every sample once between them; `keras_nns.add` makes one
            activity of theirs. Arrays, files and folders are dealt into samples that follow one
            another, a `PyDataset` into whole batches, and each process reads its own alone. A
            `tf.data.Dataset` or an iterable is gone through by all, and each keeps every eighth
            sample; it must come in the same order in every process.
        strategy: The `tf.distribute.MirroredStrategy` in whose scope the model was made: every
            device takes its rows of each batch. Under a `MultiWorkerMirroredStrategy` every process
            calls this with the same arguments, takes its shard of the data, and returns the
            activity of all of it. Not together with `checkpoint`.
        memory: How much may be held while activity is gathered, such as `"512MB"`, or a number of
            bytes: for labels × units of the watched layers, and for what a batch shows of them.
            Where all of them take more, they are watched in several passes over the data, which
            must come with the same samples each time; the progress bar counts passes. The activity
            that is returned and the model's own forward pass come on top. Not together with
            `checkpoint`. `"auto"` holds 512 MB and warns where that takes several passes, and
            everything in one pass where data come once or there is a checkpoint. None watches
            everything in one pass.

    Returns:
        The activity.

    Raises:
        DataError: Data that does not fit the model, labels it does not have, inputs that are not
            scaled as in training, NaN or infinite activations; a shard that is empty or no shard;
            data that can be read only once, or come with other samples, where several passes are
            needed.
        ModelError: A model without a graph, or without hidden units; a shard for one whose layers
            keep a state from batch to batch, or with a strategy; a strategy of another kind, or one
            that the model was not made under.
        WorkerError: Processes that see different models, labels, settings or data; or one that has
            stopped or does not come.
        SelectionError: `layers` or `statistics` that do not exist; `memory` that is no size, or too
            little for one layer.
        FileError: A checkpoint that is damaged, of another run or of other data.

    Warns:
        DataWarning: A trained model answers the first batch by chance.

    Example:
        >>> activity = nns.observe(model, (x, y))
        >>> activity.firing_rate("dense")[3].shape  # of each unit, on label 3
        (32,)
    """
    observer = Observer(
        model,
        layers=layers,
        statistics=statistics,
        threshold=threshold,
        label_names=label_names,
        label_count=label_count,
        output=output,
        strategy=strategy,
    )
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "verbose": verbose,
        "shard": shard,
        "checkpoint_every": checkpoint_every,
    }
    if checkpoint is None:
        return observe_in_passes(observer, data, y, memory=memory, **settings)
    if memory not in (None, "auto"):
        raise DataError("A checkpoint is of one pass, and memory may need several. Leave one out.")
    return observer.observe(
        data,
        y,
        checkpoint=checkpoint,
        keep_checkpoint=keep_checkpoint,
        **settings,
    )
