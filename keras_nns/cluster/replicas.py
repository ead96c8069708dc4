"""What runs on a worker: a model of its own, which sees one unit of work after the other.

Nothing here imports Keras before the worker's environment is set.
"""

from __future__ import annotations

import os
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from keras_nns.cluster.columns import Columns, batches
from keras_nns.cluster.ledger import Piece
from keras_nns.errors import NNSError
from keras_nns.files.atomic import Json

Warned = tuple[type[Warning], str]


class Running(Protocol):
    """Work on one model, begun."""

    @property
    def inputs(self) -> Sequence[str]:
        """Names of the model's inputs."""

    @property
    def size(self) -> int:
        """About how many bytes the work on one unit gives."""

    def about(self) -> Json:
        """Return what every worker must see alike, as plain data."""

    def run(self, data: Callable[[], Iterator[tuple[Any, Any]]]) -> tuple[Json, Any]:
        """Work on some samples.

        Args:
            data: Starts a pass over their batches.

        Returns:
            What every worker must see alike, as far as it is known by now; and a sum, to which
            others can be added.
        """


class Work(Protocol):
    """What workers do, to be sent to them."""

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""

    def begin(self, model: Any) -> Running:
        """Begin it on a model."""


@dataclass(frozen=True)
class ModelFile:
    """A model as it is sent to workers.

    Attributes:
        content: The bytes of its file.
        name: The file's name.
        custom_objects: As `load_model` takes them.
        unsafe: As there.
        modules: Python modules to be imported before.
    """

    content: bytes
    name: str
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    unsafe: bool = False
    modules: Sequence[str] = ()


@dataclass(frozen=True)
class Begun:
    """What a worker says when it is ready.

    Attributes:
        inputs: Names of the model's inputs.
        about: What every worker must see alike.
        size: About how many bytes the work on one unit gives.
        warned: Warnings that loading gave.
        host: The machine that it runs on.
        process: Its process there.
    """

    inputs: Sequence[str]
    about: Json
    size: int
    warned: tuple[Warned, ...]
    host: str
    process: int


@dataclass(frozen=True)
class Receipt:
    """What a worker says of a unit that it has done.

    Attributes:
        number: The unit's.
        about: What every worker must see alike.
        warned: Warnings that came up.
    """

    number: int
    about: Json
    warned: tuple[Warned, ...]


class Replica:
    """One worker.

    Args:
        environment: Variables of the environment, set before Keras is imported.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._running: Running | None = None
        self._batch_size = 0

    def begin(self, work: Work, file: ModelFile) -> Begun | NNSError:
        """Load the model and get ready.

        Args:
            work: What there is to be done.
            file: The model.

        Returns:
            What it found; or an error that the user is to be told.
        """
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                for name in file.modules:
                    import_module(name)
                running = work.begin(_load(file))
                self._running, self._batch_size = running, work.batch_size
                about, size = running.about(), running.size
            except NNSError as error:
                return error
        return Begun(running.inputs, about, size, _to_tell(warned), platform.node(), os.getpid())

    def run(
        self, number: int, pieces: Sequence[Piece], columns: Columns
    ) -> tuple[Receipt | NNSError, Any]:
        """Work on one unit.

        Args:
            number: Its number.
            pieces: Its rows.
            columns: Which columns of them are inputs and labels.

        Returns:
            A receipt and what was found; or an error that the user is to be told, and None.
        """
        running = self._running
        assert running is not None
        ray = import_module("ray")
        # All that lie on other machines begin to come.
        ray.wait([p.block for p in pieces], num_returns=len(pieces), timeout=0, fetch_local=True)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                about, found = running.run(
                    lambda: batches(_tables(pieces, columns), columns, self._batch_size)
                )
            except NNSError as error:
                return error, None
        return Receipt(number, about, _to_tell(warned)), found


def _tables(pieces: Sequence[Piece], columns: Columns) -> Iterator[Mapping[str, Any]]:
    ray, access = import_module("ray"), import_module("ray.data.block").BlockAccessor
    for piece in pieces:
        block = access.for_block(ray.get(piece.block))
        some = access.for_block(block.slice(piece.start, piece.stop, copy=False))
        yield some.to_numpy(columns.names)


def _load(file: ModelFile) -> Any:
    load_model = import_module("keras_nns.surgery.loading").load_model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file.name)
        path.write_bytes(file.content)
        return load_model(path, custom_objects=file.custom_objects, unsafe=file.unsafe)


def _to_tell(warned: Sequence[warnings.WarningMessage]) -> tuple[Warned, ...]:
    """Return warnings that are meant for users, each once."""
    ours = [(w.category, str(w.message)) for w in warned if issubclass(w.category, UserWarning)]
    return tuple(dict.fromkeys(ours))


def added(one: Any, other: Any) -> Any:
    """Add two sums."""
    return one + other
