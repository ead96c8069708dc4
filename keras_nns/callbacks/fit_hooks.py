"""Step into `model.fit` from a callback: around its compiled steps, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from keras_nns.engine.failures import EndOfData

Around = Callable[[Callable[[Any], Any], Any], Any]
"""Called with the model's own step and a batch of data; returns what the step does."""


class Fitting:
    """Puts something around a model's training step, and its test step, while it is fitted.

    Only the compiled training and test functions are replaced. They are put back by `leave`, or
    when a step raises.

    Args:
        model: The model that is fitted.
        train: What to put around the training step.
        test: What to put around the step that evaluates, such as on validation data.
    """

    def __init__(self, model: Any, *, train: Around, test: Around | None = None) -> None:
        self._model = model
        self._train = train
        self._test = test
        self._previous: dict[str, Any] = {}

    def enter(self) -> None:
        """Put the functions in place."""
        self._replace("train", self._train)
        if self._test is not None:
            self._replace("test", self._test)

    def leave(self) -> None:
        """Put the model's own functions back."""
        for name, function in self._previous.items():
            setattr(self._model, name, function)
        self._previous = {}

    def _replace(self, kind: str, around: Around) -> None:
        model, function, step = self._model, f"{kind}_function", f"{kind}_step"
        self._previous[function] = getattr(model, function)
        inner_step, own = getattr(model, step), vars(model).get(step)
        # In jax a step takes the state of the model before the data.
        vars(model)[step] = lambda *given: around(partial(inner_step, *given[:-1]), given[-1])
        try:
            getattr(model, f"make_{kind}_function")(force=True)
        finally:
            if own is None:
                del vars(model)[step]
            else:
                vars(model)[step] = own
        inner = getattr(model, function)

        def guarded(*given: Any) -> Any:
            try:
                return inner(*given)
            except BaseException as error:
                # The end of an epoch of unknown length is no failure.
                if not isinstance(error, (StopIteration, EndOfData)):
                    self.leave()
                raise

        setattr(model, function, guarded)
