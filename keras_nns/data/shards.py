"""Shards: one of several parts of equal size that data is dealt into, and what is known of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_nns.errors import DataError
from keras_nns.files.atomic import Json


@dataclass(frozen=True)
class Shard:
    """One of the parts that data is dealt into.

    Attributes:
        number: Which one, from 1.
        count: How many there are.
    """

    number: int
    count: int

    @classmethod
    def of(cls, given: Any) -> Shard:
        """Read `(2, 8)`, the second of eight.

        Raises:
            DataError: It is no such pair.
        """
        pair = tuple(given) if isinstance(given, tuple | list) else ()
        whole = len(pair) == 2 and all(hasattr(n, "__index__") for n in pair)
        if not whole or any(isinstance(n, bool) for n in pair) or not 1 <= pair[0] <= pair[1]:
            raise DataError(
                "`shard` is (number, count), such as (2, 8) for the second of eight: numbers run "
                f"from 1 to the count. Received: {given!r}. Where a scheduler counts from 0, add 1."
            )
        return cls(int(pair[0]), int(pair[1]))

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"

    def bounds(self, total: int, what: str) -> tuple[int, int]:
        """Return where it starts and ends, of `total` things that are named `what`.

        Sizes differ by one at most.

        Raises:
            DataError: It has none of them.
        """
        start, end = ((n * total) // self.count for n in (self.number - 1, self.number))
        if start == end:
            raise self.empty(total, what)
        return start, end

    def empty(self, total: int, what: str) -> DataError:
        """Return the error that there is nothing in it."""
        return DataError(
            f"Shard {self} is empty: the data has {total} {what}. Deal it into {total} shards at "
            "most."
        )


@dataclass(frozen=True)
class Shards:
    """Which shards of which data something was summed from.

    Attributes:
        numbers: Which, from 1, rising.
        count: How many the data was dealt into.
        data: What tells the data, and their order, from others.
    """

    numbers: tuple[int, ...]
    count: int
    data: str

    @property
    def missing(self) -> tuple[int, ...]:
        """Those that are not among them."""
        return tuple(n for n in range(1, self.count + 1) if n not in set(self.numbers))

    def __str__(self) -> str:
        word = "shard" if len(self.numbers) == 1 else "shards"
        return f"{word} {numbers_in_words(self.numbers)} of {self.count}"

    def to_json(self) -> Json:
        """Return it as plain data."""
        return {"numbers": list(self.numbers), "count": self.count, "data": self.data}

    @classmethod
    def from_json(cls, data: Json) -> Shards:
        """Build it from what `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: It is no such data.
        """
        found = cls(tuple(map(int, data["numbers"])), int(data["count"]), str(data["data"]))
        if not set(found.numbers) <= set(range(1, found.count + 1)) or not found.numbers:
            raise ValueError(f"there are no shards {found.numbers} of {found.count}")
        return found


def united(one: Shards | None, other: Shards | None) -> Shards | None:
    """Return which shards two sums have together; None for all of them, and where both have none.

    Raises:
        DataError: They are of different data, or have a shard in common.
    """
    if one is None and other is None:
        return None
    if one is None or other is None or (one.count, one.data) != (other.count, other.data):
        raise DataError(
            f"These are parts of different data: {_in_words(one)} and {_in_words(other)}. Add the "
            "shards of each first: nns.add(parts)."
        )
    twice = sorted(set(one.numbers) & set(other.numbers))
    if twice:
        raise DataError(
            f"Both hold {Shards(tuple(twice), one.count, '')}: its samples would count twice."
        )
    both = Shards(tuple(sorted(one.numbers + other.numbers)), one.count, one.data)
    return both if both.missing else None


def _in_words(shards: Shards | None) -> str:
    return "no shard" if shards is None else f"{shards} of data {shards.data}"


def numbers_in_words(numbers: tuple[int, ...]) -> str:
    """Write rising numbers, neighbours as a range: "1, 3 to 5 and 8"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words: list[str] = []
    for run in runs:
        words += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
