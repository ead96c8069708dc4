"""One output of several: where it is, and which targets of a data set are its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import keras
from keras import tree

from keras_nns.data.streams import Stream
from keras_nns.data.targets import at_one_position
from keras_nns.engine import datasets
from keras_nns.errors import DataError


def output_keys(model: Any) -> list[str]:
    """Return what each output of a model is called in targets, losses and files, in their order.

    That is its key in the dictionary that the model returns, else the name of the layer behind it,
    as for Keras.

    Args:
        model: A built functional model.
    """
    names = [tensor._keras_history.operation.name for tensor in model.outputs]
    structure = getattr(model, "_outputs_struct", None)
    if not isinstance(structure, Mapping):
        return names
    numbers = tree.pack_sequence_as(structure, list(range(len(names))))
    keys = {number: str(key) for key, number in numbers.items() if isinstance(number, int)}
    return [keys.get(number, name) for number, name in enumerate(names)]


def output_place(model: Any, name: str | None) -> int | None:
    """Return the place of an output of a name among a model's outputs; None where there is none.

    Args:
        model: A built functional model.
        name: The name of the layer behind it, or its key.
    """
    names = list(getattr(model, "output_names", None) or ())
    if name in names:
        return names.index(name)
    keys = output_keys(model) if names and hasattr(model, "outputs") else []
    return keys.index(name) if name in keys else None


def of_output(model: Any, name: str | None) -> Any:
    """Return a model of one of several outputs, with the loss that it is compiled with.

    Args:
        model: A built model. It is not changed, and shares its layers with what is returned.
        name: The output; None leaves the model as it is, and so does a model of one output.
    """
    place = output_place(model, name) if len(getattr(model, "outputs", None) or ()) > 1 else None
    if place is None:
        return model
    alone = keras.Model(model.inputs, model.outputs[place], name=model.name)
    loss = loss_of(model, place)
    if loss is not None:
        alone.compile(loss=loss)
    return alone


def loss_of(model: Any, place: int) -> Any:
    """Return the loss that one output of a model is compiled with; None for none.

    Args:
        model: A built functional model.
        place: The output's place.
    """
    loss = model.loss if getattr(model, "compiled", False) else None
    if isinstance(loss, Mapping):
        return loss.get(output_keys(model)[place], loss.get(model.output_names[place]))
    if isinstance(loss, list | tuple):
        return loss[place] if place < len(loss) else None
    return loss


def targets_of(data: Any, y: Any, model: Any, name: str | None) -> tuple[Any, Any]:
    """Take the targets of one output out of data that has them for several.

    They are found in a dictionary by the output's key, in a list or tuple of arrays by its place.
    Data with other targets stays as it is.

    Args:
        data: As `as_batches` takes it.
        y: Targets beside it; None where `data` has them.
        model: The model, of several outputs or one.
        name: The output; None where it is not known.

    Raises:
        DataError: Targets are a dictionary and the output is not known, or not among them.
    """
    if len(getattr(model, "outputs", None) or ()) < 2:
        return data, y
    pick = partial(_own, output_keys(model), output_place(model, name))
    if y is not None:
        return data, pick(y)
    if isinstance(data, tuple):
        return _of_item(pick, data), None
    if datasets.is_dataset(data):
        spec = datasets.element_spec(data)
        several = isinstance(spec, tuple) and len(spec) > 1 and pick(spec[1]) is not spec[1]
        return (datasets.with_targets(data, pick) if several else data), None
    if isinstance(data, keras.utils.PyDataset):
        return _Picked(data, pick), None
    if isinstance(data, Iterator):
        return map(partial(_of_item, pick), data), None
    if isinstance(data, list) and all(isinstance(item, tuple) for item in data):
        return [_of_item(pick, item) for item in data], None
    if callable(data) and not hasattr(data, "shape"):
        return (lambda: _each(pick, data())), None
    return data, None


def _own(keys: list[str], place: int | None, y: Any) -> Any:
    if isinstance(y, Mapping):
        if place is None or keys[place] not in y:
            raise DataError(
                f"The targets are those of several outputs, {list(y)}. Say which output answers "
                f"the labels, as output=…, one of {keys}; or pass its targets alone."
            )
        return y[keys[place]]
    several = isinstance(y, list | tuple) and len(y) == len(keys) > 1
    if several and place is not None and all(hasattr(part, "shape") for part in y):
        return y[place]
    return y


def _of_item(pick: Callable[[Any], Any], item: Any) -> Any:
    if isinstance(item, tuple | list) and len(item) in (2, 3):
        return (item[0], pick(item[1]), *item[2:])
    return item


def _each(pick: Callable[[Any], Any], batches: Iterable[Any]) -> Any:
    if not isinstance(batches, Iterable):
        return batches
    return map(partial(_of_item, pick), batches)


class _Picked(keras.utils.PyDataset):
    """Another data set's batches, with the targets of one output."""

    def __init__(self, data: keras.utils.PyDataset, pick: Callable[[Any], Any]) -> None:
        super().__init__(workers=data.workers)
        self._data, self._pick = data, pick

    @property
    def num_batches(self) -> int | None:
        """As many as the other has."""
        count: int | None = self._data.num_batches
        return count

    def __getitem__(self, number: int) -> Any:
        return _of_item(self._pick, self._data[number])


def of_one_position(stream: Stream, axes: int) -> Stream:
    """Return a stream whose targets are without the axes of the only position."""
    change = partial(at_one_position, axes=axes)

    def open_(start: int) -> Iterator[tuple[Any, ...]]:
        return ((x, change(y), *more) for x, y, *more in stream.open(start))

    labels = None if stream.labels is None else change(stream.labels)
    return replace(stream, labels=labels, open=open_)
