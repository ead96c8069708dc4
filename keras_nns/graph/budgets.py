"""What a subnetwork may cost: limits in units that are named."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, fields, replace
from numbers import Real
from typing import Any

from keras_nns.errors import SelectionError

_WORDS = {
    "bytes": "bytes of .tflite ({variant})",
    "flash": "bytes in flash ({variant})",
    "parameters": "parameters",
    "macs": "multiply-adds",
    "activation_memory": "bytes of activations ({variant})",
    "arena": "bytes of arena in TFLite Micro ({variant})",
    "npu_cycles": "cycles of an {target}",
    "sram": "bytes of SRAM with an {target}",
    "latency_ms": "ms a sample on this machine",
    "drop": "drop in its figures",
}
_FINE = ("latency_ms", "drop")
"""All others are counted in whole numbers."""

ON_NPU = ("npu_cycles", "sram")
"""What the compiler of an NPU says."""

_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Budget:
    """The most that a subnetwork may cost: an amount in a unit that is named, or several at once.

    Of several all hold. A drop stands alone: for it networks are made smaller, for the others
    larger.

    Attributes:
        bytes: Size of its `.tflite` file, in float32 or the variant that `extract` is asked for,
            with the names of its answers and the record of where it was cut from.
        flash: Size of what a microcontroller has of that file in its flash: the array that
            `tflite_export.to_c` writes, without names and record.
        parameters: Numbers in its weights.
        macs: Multiply-adds of one sample.
        activation_memory: Most bytes of tensors alive at the same time in that `.tflite`,
            as `tflite_export.anatomy` counts them: what any memory planner needs at least.
        arena: Bytes of the smallest arena with which TFLite Micro itself accepts that file
            (`tflite_export.arena`).
        npu_cycles: Cycles that an NPU takes for one sample, as its compiler estimates them
            (`tflite_export.npu`).
        sram: Most bytes of SRAM that tensors take there, as that compiler lays them out.
        latency_ms: Median milliseconds of one sample in the LiteRT interpreter, one thread, on this
            machine. A measured figure: it differs a little every time.
        drop: How far the mean balanced accuracy and the mean AUC may fall below those of the
            parent, asked the same, deciding where the same samples say, and judged on the same
            samples held out.
        target: The NPU that `npu_cycles` and `sram` are of, one of `tflite_export.NPU_TARGETS`.

    Raises:
        SelectionError: None is given, one without its unit, a drop beside others, or no amount
            there can be; or the NPU is missing, or nothing is counted on it.

    Example:
        >>> print(nns.Budget(bytes=60_000))
        60,000 bytes of .tflite (float32)
        >>> print(nns.Budget(npu_cycles=200_000, sram=32_000, target="ethos-u55-128"))
        200,000 cycles of an ethos-u55-128 and 32,000 bytes of SRAM with an ethos-u55-128
    """

    without_unit: InitVar[object] = None
    _: KW_ONLY
    bytes: int | None = None
    flash: int | None = None
    parameters: int | None = None
    macs: int | None = None
    activation_memory: int | None = None
    arena: int | None = None
    npu_cycles: int | None = None
    sram: int | None = None
    latency_ms: float | None = None
    drop: float | None = None
    target: str | None = None

    def __post_init__(self, without_unit: object) -> None:
        if without_unit is not None:
            raise ambiguous(without_unit)
        limits = {name: getattr(self, name) for name in self.units}
        if not limits:
            raise SelectionError(
                f"A budget is an amount in one of {', '.join(_WORDS)}, or several. Received: none."
            )
        for name, limit in limits.items():
            _check(name, limit)
        if "drop" in limits and len(limits) > 1:
            received = ", ".join(f"{name}={limit!r}" for name, limit in limits.items())
            raise SelectionError(
                "A drop stands alone, since the smallest network within it is looked for. Take a "
                f"drop, or limits of size and time. Received: {received}."
            )
        on_npu = [name for name in limits if name in ON_NPU]
        if on_npu and not self.target:
            raise SelectionError(
                f"Budget({on_npu[0]}=…) needs the NPU it is counted on, such as "
                "target='ethos-u55-128'."
            )
        if self.target and not on_npu:
            raise SelectionError(
                f"target={self.target!r} is the NPU for {' and '.join(ON_NPU)}. Give one of them, "
                "or leave target out."
            )

    @property
    def units(self) -> tuple[str, ...]:
        """The names of what is limited."""
        return tuple(name for name in _WORDS if getattr(self, name) is not None)

    @property
    def limits(self) -> dict[str, float]:
        """How much, by unit."""
        return {name: float(getattr(self, name)) for name in self.units}

    @property
    def limit(self) -> float:
        """The limit of a budget of one; of several 1, since `amount` is a share then."""
        (limit, *others) = self.limits.values()
        return 1.0 if others else limit

    def amount(self, costs: Mapping[str, float]) -> float:
        """Return the amount that is limited; of several the largest share of its limit.

        Args:
            costs: Amount by unit.
        """
        (unit, *others) = self.units
        if not others:
            return costs[unit]
        return max(costs[unit] / limit for unit, limit in self.limits.items())

    def shown(
        self, costs: Mapping[str, float], *, unit: bool = True, variant: str = "float32"
    ) -> str:
        """Write amounts as this budget's units are written.

        Args:
            costs: Amount by unit.
            unit: Whether to write the unit behind each.
            variant: The variant of `.tflite` that is counted.
        """
        written = []
        for name in self.units:
            amount = costs[name]
            number = f"{amount:.4g}" if name in _FINE else f"{amount:,.0f}"
            word = _WORDS[name].format(variant=variant, target=self.target)
            written.append(f"{number} {word}" if unit else number)
        *first, last = written
        return f"{', '.join(first)} and {last}" if first else last

    def raised(self, costs: Mapping[str, float]) -> Budget:
        """Return the nearest budget that allows these costs.

        Args:
            costs: Amount by unit.
        """
        limits: dict[str, Any] = {
            name: costs[name] if name in _FINE else math.ceil(costs[name])
            for name, limit in self.limits.items()
            if costs[name] > limit
        }
        return replace(self, without_unit=None, **limits)

    def __str__(self) -> str:
        return self.shown(self.limits)

    def __repr__(self) -> str:
        given = [f"{name}={getattr(self, name)!r}" for name in (*self.units, "target")]
        return f"Budget({', '.join(given if self.target else given[:-1])})"


def _check(name: str, limit: object) -> None:
    whole = name not in _FINE
    number = isinstance(limit, Real) and not isinstance(limit, bool) and math.isfinite(limit)
    least = 0 if name == "drop" else 1 if whole else math.ulp(0.0)
    most = 0.5 if name == "drop" else math.inf
    if number and least <= limit <= most and not (whole and limit % 1):  # type: ignore[operator]
        return
    kind = "a whole number from 1" if whole else "a number above 0"
    kind = "a share from 0 to 0.5" if name == "drop" else kind
    raise SelectionError(f"Budget({name}=…) takes {kind}. Received: {limit!r}.")


def ambiguous(amount: object) -> SelectionError:
    """Say what is wrong with an amount that has no unit, or is none."""
    text = str(amount).strip()
    if text.startswith("-"):
        return SelectionError(f"A budget is more than nothing. Received: {amount!r}.")
    if text.endswith("%") or (isinstance(amount, float) and 0 < amount < 1):
        return SelectionError(
            "A share is a budget of language models, of their decoder's parameters. Here a budget "
            "is a number of something: Budget(parameters=round(share * model.count_params())), "
            f"Budget(bytes=…). Received: {amount!r}."
        )
    example = amount if isinstance(amount, int) and not isinstance(amount, bool) else 60_000
    named = ", ".join(field.name for field in fields(Budget) if field.name in _WORDS)
    return SelectionError(
        f"A budget needs its unit: Budget(bytes={example}), Budget(parameters={example}), …, one "
        f"of {named}. Received: {amount!r}."
    )


def as_budget(given: Budget | str) -> Budget:
    """Return the budget that is meant by one, or by its words in a shell.

    Args:
        given: Such as `Budget(bytes=60_000)` or `"60kB"`.

    Raises:
        SelectionError: It is neither, or has no unit.
    """
    if isinstance(given, Budget):
        return given
    if isinstance(given, str):
        return parse(given)
    raise ambiguous(given)


def parse(text: str) -> Budget:
    """Read a budget as it is written in a shell.

    Such as `60kB`, `64KiB`, `parameters=20k`, `drop=0.01`, `npu-cycles=200k@ethos-u55-128`, or
    several with commas between them, `60kB,arena=16KiB`.

    Raises:
        SelectionError: It is no budget, or has no unit.
    """
    # A comma with three digits behind it stands within a number.
    parts = [_parsed(part) for part in re.split(r",(?!\d{3}(?!\d))", text)]
    given: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if given.setdefault(name, value) != value:
                raise SelectionError(
                    f"A budget has one limit of each kind, and one NPU. Received: {name} twice, in "
                    f"{text!r}."
                )
    return Budget(**given)


def _parsed(text: str) -> dict[str, Any]:
    given, _, target = text.strip().partition("@")
    unit, equals, amount = given.partition("=")
    unit = unit.strip().replace("-", "_")
    found: dict[str, Any] = {"target": target} if target else {}
    if not equals:
        sized = re.fullmatch(r"([\d.,_]+)\s*([kmg]i?)?b(ytes)?", given.strip(), re.IGNORECASE)
        if sized is None:
            raise ambiguous(text)
        return {"bytes": _number(sized[1], sized[2] or "", text), **found}
    if unit not in _WORDS:
        raise SelectionError(
            f"A budget is in one of {', '.join(_WORDS)}. Received: unit {unit!r} in {text!r}."
        )
    number = re.fullmatch(r"([\d.,_]+(?:e-?\d+)?)\s*([kmg]i?)?b?", amount.strip(), re.IGNORECASE)
    if number is None:
        raise SelectionError(f"A budget is a number with its unit. Received: {text!r}.")
    if unit not in _FINE:
        return {unit: _number(number[1], number[2] or "", text), **found}
    try:
        return {unit: float(number[1]), **found}
    except ValueError:
        raise SelectionError(f"A budget is a number with its unit. Received: {text!r}.") from None


def _number(digits: str, prefix: str, text: str) -> int:
    try:
        amount = float(re.sub("[_,]", "", digits)) * _PREFIXES[prefix.lower()]
    except ValueError:
        raise SelectionError(f"A budget is a number with its unit. Received: {text!r}.") from None
    return int(amount)
