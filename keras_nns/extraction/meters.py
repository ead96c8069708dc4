"""What networks cost: estimated from their plans, or measured on files."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import keras

import tflite_export
from keras_nns.errors import SelectionError
from keras_nns.extraction.clocks import Clock
from keras_nns.extraction.devices import NpuEstimates
from keras_nns.extraction.tasks import Recipe, Task, estimates_of, skeleton
from keras_nns.graph import costs
from keras_nns.graph.budgets import ON_NPU, Budget
from keras_nns.plans.kept_units import Plan
from keras_nns.selection.leaving import Cost
from keras_nns.shipping.forms import Form, Shipped
from tflite_export.c_array import in_flash

_SECONDS = 0.3
"""How long a latency is measured."""

_ARITHMETIC = 0.01
"""Of units that all limits are alike to, those leave first that save multiply-adds."""

_WELL_WITHIN = 0.9
"""Of several limits, one that is kept to this share of it asks for no more."""

# What memory and time grow with can be set against units; they themselves jump.
_COUNTED = {
    "drop": "parameters",
    "activation_memory": "macs",
    "arena": "macs",
    "latency_ms": "macs",
}

# Of a file, of one byte in float32: weights are fewer bits, and steps of every unit come beside.
_BYTES = {
    "float16": 0.5,
    "int16x8": 0.4,
    "int8": 0.4,
    "weight_int8": 0.3,
    "dynamic": 0.3,
    "weight_int4": 0.2,
    "dynamic_int4": 0.2,
}

# What is measured by one name only, and estimated as another.
_ESTIMATED = {"arena": "activation_memory", "flash": "bytes"}


class Meter:
    """What networks of a task cost, estimated from their plans or measured.

    Args:
        task: What they answer.
        recipe: What is done to them behind the cut, which may change their shape.
        clock: What counts the files that are made to measure them, and the time it takes.
        form: In which form they ship: what is measured are such files.

    Attributes:
        form: As given.
    """

    def __init__(self, task: Task, recipe: Recipe, clock: Clock, form: Form) -> None:
        self.form = form
        self._task = task
        self._recipe = recipe
        self._clock = clock
        self._estimates = estimates_of(task, recipe)
        self._last: Shipped | None = None
        self._npu: NpuEstimates | None = None
        self._passed_over: set[str] = set()
        self._gauges: dict[str, tuple[tuple[Plan, float], tuple[Plan, float]]] = {}

    # Estimated ----------------------------------------------------------------------------------

    def estimate(self, unit: str) -> Cost:
        """Return the function that says about what a plan costs in a unit, building nothing."""
        return lambda plan: self._estimates.of(unit, self._task.keep(plan))

    def estimated(self, budget: Budget) -> Cost:
        """Return the function that says about how much of a budget a plan takes.

        Of several limits, `gauge` must have been called before.
        """
        parts = self._parts(budget, {unit: unit for unit in budget.units})
        return lambda plan: budget.amount({unit: part(plan) for unit, part in parts.items()})

    def weighed(self, budget: Budget) -> Cost:
        """Return the estimate that units are set against, a few at a time, for a budget."""
        parts = self._parts(budget, {unit: _COUNTED.get(unit, unit) for unit in budget.units})
        (first, *others) = parts.values()
        if not others and not self.stepped(budget):
            return first
        arithmetic = self.estimate("macs")
        whole = arithmetic(self._task.everything()) or 1.0
        limits = budget.limits

        def cost(plan: Plan) -> float:
            # Each limit counts as far as it is exceeded: what lies within is no reason to leave.
            shares = [part(plan) / limits[unit] for unit, part in parts.items()]
            within = sum(max(share, _WELL_WITHIN) for share in shares) if others else shares[0]
            return within + _ARITHMETIC * arithmetic(plan) / whole

        return cost

    @staticmethod
    def stepped(budget: Budget) -> bool:
        """Whether what a budget limits has steps: a unit more may cost nothing, or less."""
        return any(unit in ON_NPU for unit in budget.units)

    @staticmethod
    def counted(budget: Budget) -> bool:
        """Whether everything that a budget limits is counted, and no file is made to measure it."""
        return all(unit in ("parameters", "macs") for unit in budget.units)

    def slope(self, budget: Budget) -> float | None:
        """Return about how much of what is measured comes with one of what is estimated.

        None where the two are of another kind, and only grow together. What was measured of two
        networks tells better.
        """
        if len(budget.units) > 1:
            return 1.0
        (unit,) = budget.units
        if unit in ("activation_memory", "arena", "latency_ms"):
            return None
        return _BYTES.get(self.form.variant, 1.0) if unit in ("bytes", "flash") else 1.0

    def gauge(self, budget: Budget, smallest: Plan, least: dict[str, float]) -> None:
        """Measure the whole network, so that estimates of several limits can be put together.

        Args:
            budget: What a network may cost.
            smallest: The smallest plan.
            least: What that costs.
        """
        if len(budget.units) > 1:
            everything = self._task.everything()
            whole = self.planned(budget, everything)
            self._gauges = {
                unit: ((smallest, least[unit]), (everything, whole[unit])) for unit in budget.units
            }

    def _parts(self, budget: Budget, units: dict[str, str]) -> dict[str, Cost]:
        """Estimate each limit, by the unit that stands for it; several as they are measured."""
        parts = {unit: self._estimate_of(budget, other) for unit, other in units.items()}
        if len(parts) == 1:
            return parts
        return {unit: self._gauged(unit, part) for unit, part in parts.items()}

    def _estimate_of(self, budget: Budget, unit: str) -> Cost:
        if unit not in ON_NPU:
            return self.estimate(_ESTIMATED.get(unit, unit))
        if self._npu is None:
            assert budget.target is not None
            task = self._task
            layout, everything = task.graph.layout, task.everything()
            self._npu = NpuEstimates(layout, everything, self._sized, budget.target)
        npu = self._npu
        return lambda plan: npu.of(plan)[unit]

    def _gauged(self, unit: str, estimate: Cost) -> Cost:
        """Put an estimate on the scale of what is measured, by the smallest and the whole."""
        (smallest, least), (everything, whole) = self._gauges[unit]
        low, high = estimate(smallest), estimate(everything)
        slope = (whole - least) / (high - low) if high > low else 0.0
        return lambda plan: least + slope * (estimate(plan) - low)

    # Measured -----------------------------------------------------------------------------------

    def planned(self, budget: Budget, plan: Plan) -> dict[str, float]:
        """Return what the network of a plan will cost, by unit of a budget."""
        model = skeleton(self._task, self._recipe, plan)
        run = "latency_ms" in budget.units
        return self._costs(budget, model, lambda: self.form.sized(model, run=run))

    def cost(self, budget: Budget, model: keras.Model) -> dict[str, float]:
        """Return what a model costs, by unit of a budget."""
        return self._costs(budget, model, lambda: self.shipped(model).flat)

    def shipped(self, model: keras.Model) -> Shipped:
        """Return what a model ships as; that of the last one asked for is kept."""
        if self._last is None or self._last.model is not model:
            self._last = Shipped(model, self.form)
        return self._last

    def pass_over(self, error: tflite_export.ConversionError) -> None:
        """Say that a size was left out, since there is no file of it; once for each reason."""
        if str(error) not in self._passed_over:
            self._passed_over.add(str(error))
            warnings.warn(f"A size was passed over: {error}", stacklevel=3)

    def shown(self, budget: Budget, amounts: dict[str, float]) -> str:
        """Write amounts in a budget's units, in the variant that ships."""
        return budget.shown(amounts, variant=self.form.variant)

    def _sized(self, plan: Plan) -> bytes:
        with self._clock("export"):
            return self.form.sized(skeleton(self._task, self._recipe, plan))

    def _costs(
        self, budget: Budget, model: keras.Model, file: Callable[[], bytes]
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        counted = {"parameters": costs.parameters, "macs": costs.count_macs}
        for unit in budget.units:
            if unit in counted:
                found[unit] = float(counted[unit](model))
        if len(found) < len(budget.units):
            with self._clock("export"):
                found |= self._of_file(budget, file(), model.name)
        return {unit: found[unit] for unit in budget.units}

    def _of_file(self, budget: Budget, flat: bytes, name: str) -> dict[str, float]:
        found = {"bytes": float(len(flat))}
        if "flash" in budget.units:
            found["flash"] = float(len(in_flash(flat)))
        if "activation_memory" in budget.units:
            alive = tflite_export.anatomy(flat).activation_bytes
            if alive is None:
                raise SelectionError(
                    f"The memory of {name!r} is not known beforehand: its .tflite leaves shapes "
                    "open, or has loops. Use another unit."
                )
            found["activation_memory"] = float(alive)
        if "arena" in budget.units:
            found["arena"] = float(tflite_export.arena(flat))
        if budget.target is not None:
            told = tflite_export.npu(flat, target=budget.target)
            if told.cycles is None:
                raise SelectionError(
                    f"Nothing of {name!r} runs on an {budget.target}, so there is nothing to "
                    f"count: {told.on_cpu[0].operator}: {told.on_cpu[0].reason} Pass "
                    "quantize='int8'."
                )
            found |= {"npu_cycles": float(told.cycles), "sram": float(told.sram)}
        if "latency_ms" in budget.units:
            found["latency_ms"] = milliseconds(flat)
        return found


def warn_of_cpu(budget: Budget, shipped: Shipped) -> None:
    """Warn of operators that an NPU leaves to the CPU: no budget counts them.

    Args:
        budget: What a network may cost.
        shipped: What ships.
    """
    if budget.target is None:
        return
    on_cpu = tflite_export.npu(shipped.flat, target=budget.target).on_cpu
    if on_cpu:
        told = dict.fromkeys(f"{one.operator} ({one.reason})" for one in on_cpu)
        warnings.warn(
            f"Some operators stay on the CPU, and their time is not in the cycles of the "
            f"{budget.target}: {', '.join(told)}.",
            stacklevel=3,
        )


def milliseconds(flat: bytes) -> float:
    """Return the median milliseconds of one sample on one thread of this machine."""
    return tflite_export.card(flat, seconds=_SECONDS).rows[0].latency[0].p50 / 1000
