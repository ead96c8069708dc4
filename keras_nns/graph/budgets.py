"""What a subnetwork may cost, in one unit that is named."""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, InitVar, dataclass, fields
from numbers import Real
from typing import Any

from keras_nns.errors import SelectionError

_WORDS = {
    "bytes": "bytes of .tflite ({variant})",
    "parameters": "parameters",
    "macs": "multiply-adds",
    "activation_memory": "bytes of activations ({variant})",
    "latency_ms": "ms a sample on this machine",
    "drop": "drop in its figures",
}
_WHOLE = ("bytes", "parameters", "macs", "activation_memory")
_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Budget:
    """The most that a subnetwork may cost: one amount, in a unit that is named.

    Attributes:
        bytes: Size of its `.tflite` file, in float32 or the variant that `extract` is asked for,
            with the names of its answers and the record of where it was cut from.
        parameters: Numbers in its weights.
        macs: Multiply-adds of one sample.
        activation_memory: Most bytes of tensors alive at the same time in that `.tflite`,
            as `tflite_export.anatomy` counts them: what any memory planner needs at least.
        latency_ms: Median milliseconds of one sample in the LiteRT interpreter, one thread, on this
            machine. A measured figure: it differs a little every time.
        drop: How far the mean balanced accuracy and the mean AUC may fall below those of the
            parent, asked the same, deciding where the same samples say, and judged on the same
            samples held out.

    Raises:
        SelectionError: None or several are given, one without its unit, or no amount there can be.

    Example:
        >>> print(Budget(bytes=60_000))
        60,000 bytes of .tflite (float32)
    """

    without_unit: InitVar[object] = None
    _: KW_ONLY
    bytes: int | None = None
    parameters: int | None = None
    macs: int | None = None
    activation_memory: int | None = None
    latency_ms: float | None = None
    drop: float | None = None

    def __post_init__(self, without_unit: object) -> None:
        given = [name for name in _WORDS if getattr(self, name) is not None]
        if without_unit is not None:
            raise ambiguous(without_unit)
        if len(given) != 1:
            received = ", ".join(f"{name}={getattr(self, name)!r}" for name in given) or "none"
            raise SelectionError(
                f"A budget is one amount in one unit, one of {', '.join(_WORDS)}. Received: "
                f"{received}."
            )
        name, limit = given[0], getattr(self, given[0])
        number = isinstance(limit, Real) and not isinstance(limit, bool) and math.isfinite(limit)
        least = 0 if name == "drop" else 1 if name in _WHOLE else math.ulp(0.0)
        most = 0.5 if name == "drop" else math.inf
        if not number or not least <= limit <= most or (name in _WHOLE and limit % 1):
            kind = "a whole number from 1" if name in _WHOLE else "a number above 0"
            kind = "a share from 0 to 0.5" if name == "drop" else kind
            raise SelectionError(f"Budget({name}=…) takes {kind}. Received: {limit!r}.")

    @property
    def unit(self) -> str:
        """The name of the attribute that is given."""
        return next(name for name in _WORDS if getattr(self, name) is not None)

    @property
    def limit(self) -> float:
        """How much, in that unit."""
        return float(getattr(self, self.unit))

    def shown(self, amount: float, *, unit: bool = True, variant: str = "float32") -> str:
        """Write an amount as this budget's unit is written.

        Args:
            amount: The amount.
            unit: Whether to write the unit behind it.
            variant: The variant of `.tflite` that is counted.
        """
        number = f"{amount:,.0f}" if self.unit in _WHOLE else f"{amount:.4g}"
        return f"{number} {_WORDS[self.unit].format(variant=variant)}" if unit else number

    def of(self, amount: float) -> Budget:
        """Return a budget of another amount in the same unit."""
        whole = self.unit in _WHOLE
        return _made(self.unit, math.ceil(amount) if whole else amount)

    def __str__(self) -> str:
        return self.shown(self.limit)

    def __repr__(self) -> str:
        return f"Budget({self.unit}={getattr(self, self.unit)!r})"


def ambiguous(amount: object) -> SelectionError:
    """Say what is wrong with an amount that has no unit."""
    example = amount if isinstance(amount, int) and not isinstance(amount, bool) else 60_000
    named = ", ".join(field.name for field in fields(Budget))
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
    """Read a budget as it is written in a shell: `60kB`, `64KiB`, `parameters=20k`, `drop=0.01`.

    Raises:
        SelectionError: It is no budget, or has no unit.
    """
    given = text.strip()
    unit, equals, amount = given.partition("=")
    unit = unit.strip().replace("-", "_")
    if not equals:
        found = re.fullmatch(r"([\d.,_]+)\s*([kmg]i?)?b(ytes)?", given, re.IGNORECASE)
        if found is None:
            raise ambiguous(text)
        return Budget(bytes=_number(found[1], found[2] or "", text))
    if unit not in _WORDS:
        raise SelectionError(
            f"A budget is in one of {', '.join(_WORDS)}. Received: unit {unit!r} in {text!r}."
        )
    found = re.fullmatch(r"([\d.,_]+(?:e-?\d+)?)\s*([kmg]i?)?b?", amount.strip(), re.IGNORECASE)
    if found is None:
        raise SelectionError(f"A budget is a number with its unit. Received: {text!r}.")
    if unit in _WHOLE:
        return _made(unit, _number(found[1], found[2] or "", text))
    try:
        return _made(unit, float(found[1]))
    except ValueError:
        raise SelectionError(f"A budget is a number with its unit. Received: {text!r}.") from None


def _made(unit: str, amount: float) -> Budget:
    given: dict[str, Any] = {unit: amount}
    return Budget(**given)


def _number(digits: str, prefix: str, text: str) -> int:
    try:
        amount = float(re.sub("[_,]", "", digits)) * _PREFIXES[prefix.lower()]
    except ValueError:
        raise SelectionError(f"A budget is a number with its unit. Received: {text!r}.") from None
    return int(amount)
