"""The coordinator: it gives units of work to workers, and adds up what they hand in."""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras

from keras_nns.cluster.columns import Inputs, check_named, choose
from keras_nns.cluster.ledger import TRIES, Ledger, Unit
from keras_nns.cluster.reading import Source, rows_known
from keras_nns.cluster.replicas import Begun, ModelFile, Receipt, Replica, Work, added
from keras_nns.cluster.starting import check_dataset, reserved, start, worker_count
from keras_nns.engine.configured import configured
from keras_nns.errors import DataError, ModelError, NNSError, WorkerError
from keras_nns.files.atomic import Json, read_bytes
from keras_nns.observation.workers import hold_against
from keras_nns.progress import Verbose, counted
from keras_nns.surgery.lineage import save_model

_DEPTH = 2
"""Units that a worker has at a time: one it works on, and the next."""

_PATIENCE = 3600.0
"""Seconds after which a worker that says nothing is taken for gone."""

_SAME = (
    "Give every machine the same release of keras_nns, of Keras and of what defines the model's "
    "own layers."
)


@dataclass(frozen=True)
class Cluster:
    """What a run takes of a cluster.

    Attributes:
        workers: How many workers; None for one on each processor or GPU.
        threads: Processors that each uses.
        gpus: GPUs that each has.
        timeout: Seconds to wait for workers to come.
        samples: How many samples there are, where the user knows.
        verbose: Whether to show a progress bar.
    """

    workers: int | None = None
    threads: int = 1
    gpus: float = 0
    timeout: float = 300.0
    samples: int | None = None
    verbose: Verbose = "auto"


def run_on(
    cluster: Cluster,
    work: Work,
    model: Any,
    data: Any,
    *,
    x: Inputs,
    y: str | None,
    title: str,
    custom_objects: Mapping[str, Any] | None = None,
    unsafe: bool = False,
    modules: Sequence[str] = (),
) -> Any:
    """Have workers do some work on all of a data set.

    Args:
        cluster: What there is to do it.
        work: What they do.
        model: The path of a model, or a model.
        data: The data set.
        x: Columns of inputs, as the user named them.
        y: Column of labels, as the user named it.
        title: What a progress bar says.
        custom_objects: As `load_model` takes them.
        unsafe: As there.
        modules: Python modules that workers import before they load the model.

    Returns:
        The sum of what they found; None where there are no samples.

    Raises:
        NNSError: As `keras_nns.distributed.observe`.
    """
    ray = start()
    check_dataset(data)
    if work.batch_size < 1:
        raise DataError(f"batch_size must be at least 1. Received: batch_size={work.batch_size}.")
    file = _file_of(model, dict(custom_objects or {}), unsafe, modules)
    coordinator = _Coordinator(ray, cluster, work, data, title)
    return coordinator.run(ray.put(file), x, y)


def _file_of(
    model: Any, custom_objects: Mapping[str, Any], unsafe: bool, modules: Sequence[str]
) -> ModelFile:
    if isinstance(model, str | os.PathLike):
        path = Path(os.fspath(model))
        return ModelFile(read_bytes(path), path.name, custom_objects, unsafe, modules)
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"Expected the path of a model, or a keras.Model. Received: {type(model).__name__}."
        )
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        save_model(model, path)
        return ModelFile(read_bytes(path), path.name, custom_objects, unsafe, modules)


@dataclass(eq=False)
class _Worker:
    """A worker, as the coordinator knows it.

    Attributes:
        number: Its number, from 1; one that takes the place of another has a new one.
        actor: Ray's handle.
        begun: Whether it is ready.
        place: Where it runs, in words.
        heard: When it last said something.
        out: What it is to answer, each with its unit's number; None for whether it is ready.
    """

    number: int
    actor: Any
    begun: bool = False
    place: str = ""
    heard: float = field(default_factory=time.monotonic)
    out: dict[Any, tuple[int | None, Any]] = field(default_factory=dict)


class _Coordinator:
    def __init__(self, ray: Any, cluster: Cluster, work: Work, data: Any, title: str) -> None:
        self._ray, self._cluster, self._work, self._data = ray, cluster, work, data
        self._title = title
        self._count = worker_count(cluster.workers, cluster.threads, cluster.gpus)
        self._ledger = Ledger()
        self._source: Source | None = None
        self._workers: list[_Worker] = []
        self._hired = self._stillborn = 0
        self._about: Json = {}
        self._total: Any = None
        # Handed in, but not on the way to the total; and what is on the way.
        self._handed_in: list[tuple[int, Any]] = []
        self._adding: dict[Any, list[int]] = {}
        self._told: set[Any] = set()
        self._waited_since = time.monotonic()
        self._add = ray.remote(num_cpus=0)(added)

    def run(self, file: Any, x: Inputs, y: str | None) -> Any:
        self._file = file
        known = self._cluster.samples or rows_known(self._data)
        try:
            for _ in range(self._count):
                self._hire()
            # Ray may have to read a little for it, while the workers load the model.
            there = list(self._data.columns() or [])
            if not there:
                return None
            check_named(x, y, there)
            self._named = x, y, there
            self._waited_since = time.monotonic()
            with counted(self._title, total=known, verbose=self._cluster.verbose) as shown:
                while not self._over():
                    self._give()
                    self._add_up()
                    self._listen()
                    self._check_time()
                    shown(self._ledger.seen)
        finally:
            if self._source is not None:
                self._source.close()
            for worker in self._workers:
                self._ray.kill(worker.actor)
        # Of its own memory: what Ray gave lies in Ray's.
        return copy.deepcopy(self._total)

    def _over(self) -> bool:
        return self._source is not None and self._source.ended and self._ledger.over

    # Workers -----------------------------------------------------------------------------------

    def _hire(self) -> None:
        cluster = self._cluster
        environment = {
            "KERAS_BACKEND": configured(),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": str(cluster.threads),
            "TF_NUM_INTRAOP_THREADS": str(cluster.threads),
        }
        # Workers of Ray's own making again would come with nothing begun.
        options = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        made = self._ray.remote(Replica).options(
            num_cpus=reserved(self._count, cluster.threads), num_gpus=cluster.gpus, **options
        )
        self._hired += 1
        worker = _Worker(self._hired, made.remote(environment))
        worker.out[worker.actor.begin.remote(self._work, self._file)] = (None, None)
        self._workers.append(worker)

    def _gone(self, worker: _Worker, why: str) -> None:
        """Have others do what a worker had that is gone, and one come in its place."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        self._ledger.lost(worker.number, why)
        if not worker.begun:
            self._stillborn += 1
            if self._stillborn >= TRIES and not any(one.begun for one in self._workers):
                raise WorkerError(f"{self._stillborn} workers have ended before they began. {why}")
        self._hire()

    def _check_time(self) -> None:
        now, cluster = time.monotonic(), self._cluster
        for worker in list(self._workers):
            if worker.begun and worker.out and now - worker.heard > _PATIENCE:
                why = f"Worker {worker.number}{worker.place} has been silent for an hour."
                self._gone(worker, why)
        ready = sum(worker.begun for worker in self._workers)
        if ready == self._count:
            self._waited_since = now
        if now - self._waited_since <= cluster.timeout:
            return
        if not ready:
            raise WorkerError(f"No worker has come in {cluster.timeout:g} seconds. {self._free()}")
        self._tell(
            UserWarning,
            f"{self._count - ready} of {self._count} workers have not come in "
            f"{cluster.timeout:g} seconds; the others do the work. {self._free()}",
        )

    def _free(self) -> str:
        ray, cluster = self._ray, self._cluster
        there = ray.cluster_resources()
        free = ray.available_resources()
        asked = f"{cluster.gpus:g} GPU" if cluster.gpus else f"{cluster.threads} processors"
        kind = "GPU" if cluster.gpus else "CPU"
        return (
            f"Each of {self._count} asks for {asked}, and the cluster has {there.get(kind, 0):g} "
            f"{kind}, of which {free.get(kind, 0):g} are free. Ask for less by workers=, threads= "
            "or gpus=, wait longer by timeout=, or add machines."
        )

    def _tell(self, category: type[Warning], text: str) -> None:
        """Warn once."""
        if (category, text) not in self._told:
            self._told.add((category, text))
            warnings.warn(text, category, stacklevel=5)

    # Work --------------------------------------------------------------------------------------

    def _give(self) -> None:
        """Give units to workers that have fewer than they could have."""
        if self._source is None:
            return
        ready = [worker for worker in self._workers if worker.begun]
        for depth in range(_DEPTH):
            for worker in ready:
                if self._ledger.held_by(worker.number) > depth:
                    continue
                unit = self._ledger.again() or self._source.take()
                if unit is None:
                    return
                self._send(unit, worker)

    def _send(self, unit: Unit, worker: _Worker) -> None:
        self._ledger.give(unit, worker.number)
        if not worker.out:
            worker.heard = time.monotonic()
        call = worker.actor.run.options(num_returns=2)
        receipt, found = call.remote(unit.number, unit.pieces, self._columns)
        worker.out[receipt] = (unit.number, found)

    def _listen(self) -> None:
        """Wait a moment for workers, and for sums that were added up."""
        waited = [*self._adding, *(ref for worker in self._workers for ref in worker.out)]
        if not waited:
            time.sleep(0.01)
            return
        done, _ = self._ray.wait(waited, num_returns=1, timeout=0.1, fetch_local=False)
        for ref in done:
            if ref in self._adding:
                self._arrived(ref, self._adding.pop(ref))
            for worker in list(self._workers):
                if ref in worker.out:
                    self._answered(worker, ref, *worker.out.pop(ref))

    def _answered(self, worker: _Worker, ref: Any, number: int | None, found: Any) -> None:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause
            if number is None or not isinstance(cause, errors.RayError):
                raise WorkerError(_failed(worker.number, cause)) from error
            self._ledger.failed(number, _failed(worker.number, cause))
            return
        except errors.RayError as error:
            self._gone(worker, f"Worker {worker.number}{worker.place}: {_last_words(error)}")
            return
        worker.heard = time.monotonic()
        if isinstance(answer, NNSError):
            raise answer
        if isinstance(answer, Begun):
            self._begin(worker, answer)
            return
        self._receive(worker, answer, found)

    def _begin(self, worker: _Worker, begun: Begun) -> None:
        self._agree(worker, begun.about, begun.warned)
        worker.begun, worker.place = True, f" (process {begun.process} on {begun.host})"
        if self._source is None:
            self._columns = choose(*self._named, begun.inputs)
            self._source = Source(
                self._data,
                self._columns.names,
                batch_size=self._work.batch_size,
                workers=self._count,
                least=begun.size,
            )

    def _receive(self, worker: _Worker, receipt: Receipt, found: Any) -> None:
        self._agree(worker, receipt.about, receipt.warned)
        if self._ledger.accept(receipt.number, worker.number):
            self._handed_in.append((receipt.number, found))

    def _agree(self, worker: _Worker, about: Json, warned: Sequence[Any]) -> None:
        for category, text in warned:
            self._tell(category, text)
        for name, seen in about.items():
            first, number = self._about.setdefault(name, (seen, worker.number))
            who, whom = f"Worker {worker.number}", f"worker {number}"
            hold_against(about, {name: first}, who, whom, _SAME)

    # Sums --------------------------------------------------------------------------------------

    def _add_up(self) -> None:
        """Begin to add what was handed in, pairs of it first, where it is as much as workers."""
        source = self._source
        last = source is not None and source.ended and self._ledger.quiet
        if not self._handed_in or (len(self._handed_in) < max(2, self._count) and not last):
            return
        numbers = [number for number, _ in self._handed_in]
        sums = [found for _, found in self._handed_in]
        while len(sums) > 1:
            pairs = [self._add.remote(*sums[i : i + 2]) for i in range(0, len(sums) - 1, 2)]
            sums = pairs + sums[2 * len(pairs) :]
        self._handed_in = []
        self._adding[sums[0]] = numbers

    def _arrived(self, ref: Any, numbers: Sequence[int]) -> None:
        errors = self._ray.exceptions
        try:
            found = self._ray.get(ref)
        except errors.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, NNSError):
                raise cause from None
            self._ledger.recall(numbers, f"A sum was lost: {_last_words(error)}")
            return
        self._total = found if self._total is None else self._total + found
        self._ledger.count(numbers)


def _failed(number: int, cause: Any) -> str:
    text = " ".join(str(cause).split())
    return f"Worker {number} failed: {type(cause).__name__}: {text[-500:]}"


def _last_words(error: Exception) -> str:
    """Return what Ray says of a worker's end, without where in Ray it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:500] if lines else type(error).__name__
