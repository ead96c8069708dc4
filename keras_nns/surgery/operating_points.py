"""Where probabilities become decisions, as a subnetwork remembers it."""

from __future__ import annotations

from dataclasses import dataclass

from keras_nns.files.atomic import Json


@dataclass(frozen=True)
class OperatingPoint:
    """Where a model's outputs become decisions.

    Attributes:
        samples: On how many samples it was set.
        thresholds: From where each output that is decided by itself counts as yes; None where one
            answer excludes the others.
        offsets: What is added to the logarithm of each answer's probability, or to its logit,
            before the largest is decided for; None where outputs are decided by themselves.
    """

    samples: int
    thresholds: tuple[float, ...] | None = None
    offsets: tuple[float, ...] | None = None

    def to_json(self) -> Json:
        """Return the point as plain data."""
        return {
            "samples": self.samples,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "offsets": None if self.offsets is None else list(self.offsets),
        }

    @classmethod
    def from_json(cls, data: Json) -> OperatingPoint:
        """Build a point from what `to_json` gave."""
        thresholds, offsets = data["thresholds"], data["offsets"]
        return cls(
            samples=int(data["samples"]),
            thresholds=None if thresholds is None else tuple(float(t) for t in thresholds),
            offsets=None if offsets is None else tuple(float(o) for o in offsets),
        )


@dataclass(frozen=True)
class BalancedDecisions:
    """That a subnetwork's decisions weigh its answers alike, however many samples each has.

    A parent that decides by the shares of its training data is no match for it at its own point, so
    the parent's best point on the same samples is kept beside it.

    Attributes:
        samples: On how many samples the subnetwork's decisions were set.
        parent: The parent's point on the same samples, asked the same; None where no parent was at
            hand.
    """

    samples: int
    parent: OperatingPoint | None = None

    def to_json(self) -> Json:
        """Return it as plain data."""
        parent = None if self.parent is None else self.parent.to_json()
        return {"samples": self.samples, "parent": parent}

    @classmethod
    def from_json(cls, data: Json) -> BalancedDecisions:
        """Build it from what `to_json` gave."""
        parent = data["parent"]
        return cls(
            samples=int(data["samples"]),
            parent=None if parent is None else OperatingPoint.from_json(parent),
        )
