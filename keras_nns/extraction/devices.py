"""What networks would take on an NPU, from its own compiler, without making each of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

import tflite_export
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Group, Layout
from tflite_export.ethos_u import compiled, cycles_and_sram
from tflite_export.flatbuffer.resizing import Resizable


class NpuEstimates:
    """What an NPU would take for the networks of plans: its compiler is asked about their widths.

    One file is converted of the whole network and one with a unit less of each group; the files of
    all other widths follow from those. Groups that a number of units does not describe, such as
    one that is shared out among layers, count as whole.

    Args:
        layout: The groups of units of their parent.
        everything: The plan that keeps every unit.
        file: Makes a file of the network of a plan, with made-up ranges.
        target: The NPU.
    """

    def __init__(
        self, layout: Layout, everything: Plan, file: Callable[[Plan], bytes], target: str
    ) -> None:
        self._layout = layout
        self._everything = everything
        self._file = file
        self._target = target
        self._known: dict[tuple[int, ...], dict[str, float]] = {}

    def of(self, plan: Plan) -> dict[str, float]:
        """Return cycles and bytes of SRAM, by the names that budgets have for them."""
        # A group of no unit is another network: it is taken for one of one unit.
        gone = tuple(
            min(plan.sizes[name] - len(plan.kept[name]), plan.sizes[name] - 1)
            for name in self._resizable[1]
        )
        if gone not in self._known:
            files, names = self._resizable
            flat = files.without(dict(zip(names, gone, strict=True)))
            cycles, sram = cycles_and_sram(compiled(flat, self._target)[0])
            self._known[gone] = {"npu_cycles": float(cycles), "sram": float(sram)}
        return self._known[gone]

    @property
    def names(self) -> tuple[str, ...]:
        """The groups that a number of units describes."""
        return self._resizable[1]

    @cached_property
    def _resizable(self) -> tuple[Resizable, tuple[str, ...]]:
        everything = self._everything
        whole = self._file(everything)
        fewer: dict[str, tuple[int, bytes]] = {}
        for group in self._layout.prunable:
            unit = _removable(group)
            if unit is None:
                continue
            left = tuple(number for number in range(group.size) if number != unit)
            plan = replace(everything, kept={**everything.kept, group.name: left})
            smaller = {group.name: (1, self._file(plan))}
            with suppress(tflite_export.FlatbufferError):
                Resizable(whole, smaller)
                fewer |= smaller
        return Resizable(whole, fewer), tuple(fewer)


def _removable(group: Group) -> int | None:
    """Return a unit that may be missing, of a group that every layer in it holds the whole of."""
    everything = set(range(group.size))
    if group.parts or any({*member.units} != everything for member in group.members):
        return None
    free = sorted(everything - group.protected)
    return free[-1] if free and group.size > max(1, group.least) else None
