"""What a page on an operation tells of: the parent, what was observed, the networks cut from it."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from keras_nns.judgement.compared import Comparison
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.reporting.thumbnails import Tiles
from keras_nns.surgery.proving import Proof
from keras_nns.tables import Table


@dataclass(frozen=True, eq=False)
class Subnetwork:
    """One cut network and what is known about it.

    Attributes:
        name: What to call it, such as the label's name or `"merged"`.
        plan: Which units it keeps.
        model: The cut model.
        comparison: It beside its parent on held-out data; sizes of `.tflite` files are in there.
        proof: How far it is from its masked parent, when that was measured.
        tflite_difference: Largest difference between the `.tflite` file and the cut model, when
            the file was made and run.
        way: How it was made, in a few words, where there are others for its labels.
        file: Path of its `.tflite` file beside the page, when there is one.
    """

    name: str
    plan: Plan
    model: keras.Model
    comparison: Comparison
    proof: Proof | None = None
    tflite_difference: float | None = None
    way: str = ""
    file: str | None = None


@dataclass(frozen=True, eq=False)
class SurgeryRecord:
    """All that a report on an operation tells.

    Attributes:
        parent: The model that was operated on.
        activity: What was observed.
        subnetworks: The cut networks, one per label or per set of labels.
        merged: The network of all their units together, when there is one.
        notes: Sentences on the data: what it is, what was observed, what was held out.
        card: What the `.tflite` files cost on the device, one file per row, when there are any.
        merged_words: What the merged network is, in a sentence.
        further: Other networks for the labels of the subnetworks: of other sizes, or made in
            another way. An interactive page goes through them.
        tiles: Samples that excite units, where they are images.
        parent_file: Path of the parent's `.tflite` file beside the page, when there is one.
        zeta: The share of the paper's rule with which an interactive page begins.
    """

    parent: keras.Model
    activity: Activity
    subnetworks: tuple[Subnetwork, ...]
    merged: Subnetwork | None = None
    notes: tuple[str, ...] = ()
    card: Table | None = None
    merged_words: str = (
        "All the units that any of them keeps make up one more network, the merged one."
    )
    further: tuple[Subnetwork, ...] = ()
    tiles: Tiles | None = None
    parent_file: str | None = None
    zeta: float = 0.4

    @property
    def every(self) -> tuple[Subnetwork, ...]:
        """The cut networks, the merged one last."""
        return self.subnetworks if self.merged is None else (*self.subnetworks, self.merged)
