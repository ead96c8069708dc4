"""What can leave a model: found by `constants`, built by `rewriting`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_nns.graph.rules import Keep
from keras_nns.surgery.cleaning.intervals import Array

Mask = NDArray[np.bool_]


@dataclass(frozen=True, order=True)
class Change:
    """One thing that a simplification did, or why it left something.

    Attributes:
        layer: Path of the layer.
        change: What was done, in words.
        units: How many units it took away; 0 for anything else.
    """

    layer: str
    change: str
    units: int = 0


@dataclass(frozen=True, eq=False)
class Join:
    """A merging call of which some inputs are constant: what is left of it.

    Attributes:
        inputs: The tensors that stay, by id.
        scale: What their merge is multiplied by: a number, or one for each of the last axis.
        offset: What is added then.
        show: Whether the call's name must stay: it is what the model answers.
    """

    inputs: list[int]
    scale: Array
    offset: Array
    show: bool

    @property
    def trivial(self) -> bool:
        """Whether nothing is multiplied or added."""
        return bool((self.scale == 1).all() and (self.offset == 0).all())


@dataclass(eq=False)
class Decision:
    """What leaves a model.

    Attributes:
        kept: For every unit, whether it stays.
        shifts: By id of a layer, what its bias gains: one number for each of the user's outputs.
        joins: By id of the first output of a call, what becomes of it.
        skipped: By id of the first output of a call: the call is not made.
        changes: In words.
    """

    kept: Mask
    shifts: dict[int, Array] = field(default_factory=dict)
    joins: dict[int, Join] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)

    @property
    def keep(self) -> Keep:
        """The units that stay."""
        return Keep(self.kept)
