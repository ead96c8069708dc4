"""Observe on a cluster: each worker sums what it sees, and the sums are added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from keras_nns.cluster.columns import Inputs
from keras_nns.cluster.coordination import Cluster, run_on
from keras_nns.data.inputs import InputReader
from keras_nns.errors import DataError
from keras_nns.files.atomic import Json
from keras_nns.graph.tracing import weights_digest
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.in_passes import needed
from keras_nns.observation.probing import Layers
from keras_nns.observation.sums import known_statistics
from keras_nns.observation.watcher import NO_SAMPLES, Observer
from keras_nns.observation.workers import check_stateless
from keras_nns.plans.units import Fingerprint
from keras_nns.progress import Verbose


def observe(
    model: str | PathLike[str] | Any,
    data: Any,
    *,
    x: Inputs = None,
    y: str | None = None,
    layers: Layers = None,
    statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
    threshold: float = 0.0,
    batch_size: int = 256,
    label_names: Sequence[str] | None = None,
    label_count: int | None = None,
    output: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    gpus: float = 0,
    timeout: float = 300.0,
    samples: int | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    unsafe: bool = False,
    modules: Sequence[str] = (),
    verbose: Verbose = "auto",
) -> Activity:
    """Watch which units fire for which label, on many machines or cores at once, by Ray.

    Every worker has a model of its own and sums what it sees. A unit of work is some rows of the
    data; what a worker makes of it is taken once, and rows of a worker that dies are given to
    others, so that every sample counts exactly once. Sums are added in a tree and arrive as one, so
    that what is held here is labels × units, however many samples and workers there are.

    Ray starts on this machine, unless it runs already or `RAY_ADDRESS` names a cluster; there
    `keras_nns` must be installed on every machine. Only workers load the model.

    Args:
        model: The path of a `.keras` or `.h5` file, which is sent to the workers; or a model.
        data: A `ray.data.Dataset` of any source, with columns of inputs and of labels: Parquet,
            images, TFRecord, numpy, from files or an object store.
        x: The column of the inputs; several, whose numbers are the features of one input; or a dict
            of either for each input of the model. None takes columns that are called as the
            inputs, or the only one beside the labels.
        y: The column of the labels. None takes one that is called `y`, `label` or `labels`.
        layers: As in `keras_nns.observe`.
        statistics: As there.
        threshold: As there.
        batch_size: Samples per step.
        label_names: As there; needed where labels are strings.
        label_count: As there.
        output: As there.
        workers: How many. None takes one for each processor of the cluster, or each GPU with
            `gpus=1`.
        threads: Processors that each worker uses.
        gpus: GPUs that each worker has.
        timeout: Seconds to wait for workers to come.
        samples: How many samples there are, for the time left that the progress bar shows, where
            Ray does not know before it has read them.
        custom_objects: As in `keras_nns.load_model`.
        unsafe: As there.
        modules: Names of Python modules that workers import before they load the model, for layers
            and functions that these register with Keras.
        verbose: Whether to show a progress bar; `"auto"` on a terminal only.

    Returns:
        The activity: counts as in one process, bit for bit where the model gives the same values;
        means to rounding.

    Raises:
        BackendError: Ray is not installed.
        DataError: Data that are no data set of Ray's, or whose columns do not fit the model; or as
            in `keras_nns.observe`.
        WorkerError: No worker comes in time; workers see different models; the same samples come
            to nothing again and again.
        NNSError: As in `keras_nns.observe`.

    Warns:
        UserWarning: Some of the workers do not come, and the others do the work.

    Example:
        >>> import ray
        >>> data = ray.data.from_items([{"x": a, "y": b} for a, b in zip(x, y)])
        >>> activity = nns.distributed.observe(model, data, workers=2)
        >>> activity
        <Activity of 48 units in 2 layers for 10 labels over 1200 samples>
    """
    work = Observing(
        {
            "layers": layers,
            "statistics": known_statistics(statistics),
            "threshold": threshold,
            "label_names": label_names,
            "label_count": label_count,
            "output": output,
        },
        batch_size,
    )
    cluster = Cluster(
        workers=workers,
        threads=threads,
        gpus=gpus,
        timeout=timeout,
        samples=samples,
        verbose=verbose,
    )
    own = dict(custom_objects or {})
    activity: Activity | None = run_on(
        cluster,
        work,
        model,
        data,
        x=x,
        y=y,
        title="observing",
        custom_objects=own,
        unsafe=unsafe,
        modules=modules,
    )
    if activity is None or not activity.samples.any():
        raise DataError(NO_SAMPLES)
    return activity


@dataclass(frozen=True)
class Observing:
    """Observe, as work for workers.

    Attributes:
        settings: Of the `Observer`.
        batch_size: Samples in a batch.
    """

    settings: Mapping[str, Any]
    batch_size: int

    def begin(self, model: Any) -> Begun:
        """Begin on a model.

        Raises:
            NNSError: As `observe` does.
        """
        return Begun(Observer(model, **self.settings), self.batch_size)


class Begun:
    """An observer that sees one part of the data after the other.

    Args:
        observer: The observer.
        batch_size: Samples in a batch.

    Attributes:
        inputs: Names of the model's inputs.
        size: About how many bytes the activity of a part takes.
    """

    def __init__(self, observer: Observer, batch_size: int) -> None:
        check_stateless(observer.model, "the cluster")
        self._observer = observer
        self._batch_size = batch_size
        self.inputs = list(InputReader(observer.model).names)
        outputs = [tensor.shape[-1] or 1 for tensor in observer.model.outputs]
        self.size = sum(needed(tap, max(outputs), observer.statistics, 0) for tap in observer.taps)

    def about(self) -> Json:
        """Return what every worker must see alike."""
        observer = self._observer
        model = Fingerprint(observer.graph.structure, weights_digest(observer.model))
        return {"model": model.to_json(), "layers": [tap.name for tap in observer.taps]}

    def run(self, data: Callable[[], Iterator[tuple[Any, Any]]]) -> tuple[Json, Activity]:
        """Observe some samples."""
        found = self._observer.observe(data, batch_size=self._batch_size, verbose=False, part=True)
        return {
            "model": found.fingerprint.to_json(),
            "layers": list(found.layers),
            "label_names": list(found.label_names),
        }, found
