"""A parent and its data, as repairs of all of its subnetworks share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from keras_nns.errors import SurgeryError
from keras_nns.graph.tracing import trace
from keras_nns.observation.forward import Answering, Forward, Ran, run
from keras_nns.observation.holdout import Division, Survey

MEMORY = 2**30
"""Bytes of activations that are kept from one layer's fit to the next, unless told otherwise."""

Part = Literal["held_out", "to_fit"]


class Prepared:
    """A parent and its data. What does not depend on the subnetwork is computed once.

    Args:
        parent: The model. It is not changed.
        division: The data.
        memory: How many bytes of activations a repair may keep from one layer's fit to the next.

    Attributes:
        parent: The model.
        graph: Its graph.
        division: The data.
        memory: As given.
        looked_at: Whether the parent's answers to the data were looked at, as by `observe`.

    Raises:
        SurgeryError: `memory` is no number of bytes.
    """

    def __init__(self, parent: Any, division: Division, *, memory: int = MEMORY) -> None:
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
            raise SurgeryError(
                f"`memory` is a number of bytes, 0 or more. Received: memory={memory!r}."
            )
        self.parent = parent
        self.graph = trace(parent)
        self.division = division
        self.memory = memory
        self.looked_at = False
        self._forwards: dict[str | None, Forward] = {}
        self._ran: dict[tuple[Part, str | None, bool], Ran] = {}
        self._of_labels: dict[tuple[int, ...], Prepared] = {}

    @cached_property
    def survey(self) -> Survey:
        """How many samples there are.

        Raises:
            DataError: A part that is needed has no sample.
        """
        return self.division.survey()

    def of_labels(self, labels: Sequence[int]) -> Prepared:
        """Return the same for the samples of some labels alone."""
        key = tuple(labels)
        if key not in self._of_labels:
            some = self.division.of_labels(key)
            self._of_labels[key] = Prepared(self.parent, some, memory=self.memory)
        return self._of_labels[key]

    def forward(self, output: str | None) -> Forward:
        """Return the parent's forward pass to an output, compiled once for all who ask."""
        if output not in self._forwards:
            self._forwards[output] = Forward(self.parent, output, trusted=self.looked_at)
        return self._forwards[output]

    def run(
        self,
        part: Part,
        output: str | None,
        others: Sequence[Answering],
        *,
        every_step: bool = False,
    ) -> Ran:
        """Return what the parent gives for a part of the data, and what others give behind it.

        Args:
            part: Which part of the data.
            output: Name of the parent's output that answers the labels.
            others: Other models.
            every_step: As in `observation.forward.run`.
        """
        batches = self.division.held_out if part == "held_out" else self.division.to_fit
        key = (part, output, every_step)
        known = self._ran.get(key)
        if known is None:
            everyone: list[Answering] = [self.forward(output), *others]
            ran = run(everyone, batches(), every_step=every_step)
            self.forward(output).trusted = True
            if self.division.constant:
                self._ran[key] = replace(ran, outputs=ran.outputs[:1])
            return ran
        if not others:
            return known
        ran = run(others, batches(), every_step=every_step)
        return replace(ran, outputs=[*known.outputs, *ran.outputs])
