"""Models run side by side over data up to one layer after another, each time from where they were.

What layers behind a layer still read is kept for every batch, as far as memory goes, so that the
next layer is reached from there and not from the input again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.engine.layers import mask_of, with_mask
from keras_nns.engine.steps import Stepper
from keras_nns.engine.tensors import size_in_bytes
from keras_nns.graph.keras_internals import is_recurrent, standardise_inputs, undisturbed
from keras_nns.graph.programs import Program, Slot
from keras_nns.observation.holdout import Dealt, Division

_UNCOMPILED = 4
"""Batches that a step is run on before it is compiled: about what compiling takes."""

Values = dict[Slot, Any]
Look = Callable[[Sequence[tuple[Program, Values]], Any, Any], Any]
"""`(programs and what is known before the layer, part, weight)`; what it returns comes back."""

Weigh = Callable[[Batch, NDArray[np.int32]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class _State:
    """How far a model was run on a batch: what is known before one call.

    Attributes:
        place: Number of the call.
        slots: Which tensors.
        tensors: Each by itself, or with its Keras mask.
    """

    place: int
    slots: tuple[Slot, ...]
    tensors: list[list[Any]]

    @property
    def size(self) -> int:
        """Bytes of it."""
        return sum(size_in_bytes(t) for t in tree.flatten(self.tensors))

    @property
    def can_be_kept(self) -> bool:
        """Whether all of it has samples on its first axis, as steps take it."""
        return all(len(t.shape) for t in tree.flatten(self.tensors))


@dataclass(eq=False)
class _Known:
    """A batch without its inputs, and how far each model was run on it."""

    dealt: Dealt
    states: dict[int, _State] = field(default_factory=dict)


class Stages:
    """Goes over data again and again, each time up to a layer.

    Args:
        division: The data.
        memory: How many bytes may be kept from one pass to the next, besides the models.
    """

    def __init__(self, division: Division, *, memory: int) -> None:
        self._division = division
        self._memory = memory
        self._held = 0
        self._known: list[_Known] = []
        self._whole = False
        # Of data in another order in every pass, a part is worth nothing.
        self._keeping = memory > 0

    @property
    def held(self) -> int:
        """How many bytes are kept."""
        return self._held

    def forget(self, model: int) -> None:
        """Forget how far a model was run: what lies there may have changed.

        Args:
            model: Its place among those that are run.
        """
        for known in self._known:
            state = known.states.pop(model, None)
            self._held -= 0 if state is None else state.size

    def run(
        self, models: Sequence[Any], paths: Sequence[str], look: Look, weigh: Weigh
    ) -> Iterator[tuple[Any, NDArray[np.int32]]]:
        """Go over the data once, up to the first call of a layer.

        Args:
            models: Models with that layer, the same in the same places as in every pass before;
                one may have been replaced by a copy.
            paths: The layer, by its path in each model.
            look: Called inside a compiled step with what is known before that call.
            weigh: Says how much each sample counts.

        Yields:
            What `look` returned for a batch, and which part each of its samples is of, rising.
        """
        programs = [Program(model) for model in models]
        goals = [p.places(path)[0] for p, path in zip(programs, paths, strict=True)]
        steps: dict[tuple[int, ...], _Step] = {}
        with ExitStack() as stack:
            for model in models:
                stack.enter_context(undisturbed(model))
            for known, inputs in self._batches(goals):
                begun = [known.states.get(i) for i in range(len(models))]
                # Of an earlier step, or of a layer that comes later.
                states = [
                    state if state is not None and state.place <= goal else None
                    for state, goal in zip(begun, goals, strict=True)
                ]
                key = tuple(-1 if state is None else state.place for state in states)
                if key not in steps:
                    steps[key] = _Step(models, programs, goals, states, look)
                dealt = known.dealt
                weight = weigh(dealt.batch, dealt.part)
                reached, found = steps[key](states, inputs, dealt.part, weight)
                for model, state in enumerate(reached):
                    self._keep(known, model, state)
                yield found, dealt.part
        self._whole = True

    def _batches(self, goals: Sequence[int]) -> Iterator[tuple[_Known, Any]]:
        """Yield batches with their inputs; without, where all models were run on all of them."""
        if (
            self._whole
            and self._keeping
            and all(
                model in known.states and known.states[model].place <= goal
                for known in self._known
                for model, goal in enumerate(goals)
            )
        ):
            yield from ((known, None) for known in self._known)
            return
        if not self._division.constant:
            self._let_go()
        for number, dealt in enumerate(_sorted(self._division)):
            if not self._keeping:
                yield _Known(dealt), dealt.batch.inputs
                continue
            if number == len(self._known):
                batch = Batch(None, dealt.batch.labels, dealt.batch.weights)
                self._known.append(_Known(Dealt(batch, dealt.part)))
            yield self._known[number], dealt.batch.inputs

    def _keep(self, known: _Known, model: int, state: _State) -> None:
        before = known.states.get(model)
        if not self._keeping or (before is not None and before.place == state.place):
            return
        held = self._held + state.size - (0 if before is None else before.size)
        if held <= self._memory and state.can_be_kept:
            known.states[model] = state
            self._held = held
        elif not self._division.constant:
            self._let_go()
            self._keeping = False

    def _let_go(self) -> None:
        self._known, self._held = [], 0


class _Step:
    """Runs models from where they are to a layer, compiled, and looks at what is there."""

    def __init__(
        self,
        models: Sequence[Any],
        programs: Sequence[Program],
        goals: Sequence[int],
        states: Sequence[_State | None],
        look: Look,
    ) -> None:
        self._models, self._programs, self._goals, self._look = models, programs, goals, look
        self._starts = [
            (0, tuple(program.inputs)) if state is None else (state.place, state.slots)
            for state, program in zip(states, programs, strict=True)
        ]
        self._slots: list[tuple[Slot, ...]] = []
        ways = [
            program.instructions[start:goal]
            for program, (start, _), goal in zip(programs, self._starts, goals, strict=True)
        ]
        # Every layer is another step, each run on few batches: compiling is most of a small repair.
        loops = any(is_recurrent(one.call.operation) for way in ways for one in way)
        self._step = Stepper(self._run, uncompiled=0 if loops else _UNCOMPILED)

    def __call__(
        self, states: Sequence[_State | None], inputs: Any, part: Any, weight: Any
    ) -> tuple[list[_State], Any]:
        given = [inputs if state is None else state.tensors for state in states]
        self._from_inputs = [state is None for state in states]
        reached, found = self._step(given, part, weight)
        kept = [
            _State(goal, slots, tensors)
            for goal, slots, tensors in zip(self._goals, self._slots, reached, strict=True)
        ]
        return kept, found

    def _run(self, given: Sequence[Any], part: Any, weight: Any) -> tuple[Any, Any]:
        there, reached = [], []
        self._slots = []
        for i, program in enumerate(self._programs):
            start, slots = self._starts[i]
            if self._from_inputs[i]:
                tensors = [[t] for t in standardise_inputs(self._models[i], given[i])]
            else:
                tensors = given[i]
            values = {slot: with_mask(*one) for slot, one in zip(slots, tensors, strict=True)}
            values = program.run(values, start, self._goals[i])
            there.append((program, values))
            self._slots.append(tuple(values))
            reached.append([_with_mask(value) for value in values.values()])
        return reached, self._look(there, part, weight)


def _with_mask(tensor: Any) -> list[Any]:
    mask = mask_of(tensor)
    return [tensor] if mask is None else [tensor, mask]


def _sorted(division: Iterable[Dealt]) -> Iterator[Dealt]:
    """Yield batches with the samples of each part together."""
    for dealt in division:
        order = np.argsort(dealt.part, kind="stable")
        batch = dealt.batch
        inputs = tree.map_structure(lambda t, o=order: np.asarray(t)[o], batch.inputs)
        weights = None if batch.weights is None else batch.weights[order]
        yield Dealt(Batch(inputs, batch.labels[order], weights), dealt.part[order])
