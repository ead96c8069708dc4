"""Cut a network for each plan; prove, export and judge each: what a report tells about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

import tflite_export
from keras_nns import tables
from keras_nns.errors import ProofError, SelectionError
from keras_nns.files.atomic import Json
from keras_nns.files.folders import safe_names
from keras_nns.graph.costs import Costs
from keras_nns.judgement.comparison import compare
from keras_nns.judgement.rows import LabelFigures
from keras_nns.observation.activity import Activity
from keras_nns.observation.exciting import most_exciting
from keras_nns.plans.kept_units import Plan, union
from keras_nns.reporting.record import Subnetwork, SurgeryRecord
from keras_nns.reporting.side_by_side import FLOAT, MERGED, PAPER, SAME, TENTH, Contender, Contest
from keras_nns.reporting.thumbnails import Tiles, are_pictures, tiles
from keras_nns.shipping.tflite_files import card_table, device_card, extras, labelled_samples
from keras_nns.surgery.cutting import cut, prove
from keras_nns.surgery.lineage import Head, lineage
from keras_nns.surgery.proving import Proof
from keras_nns.tables import Table, Tabular

PARENT = "parent"
PARENT_FILE = f"{PARENT}.tflite"

_FOLDERS = {TENTH: "tflite", SAME: "same", PAPER: "paper"}
_WAYS = {
    TENTH: "ours, at most a tenth of the paper's",
    SAME: "ours, as large as the paper's",
    PAPER: "the paper's rule",
    MERGED: "ours, for all labels",
}

_MOST_SAMPLES, _MOST_BYTES = 2_000, 200_000_000
"""How many samples are looked at to find what excites units, and in how much memory."""

_TIMED = 0.1
"""Seconds for which each file's latency is measured."""

Tell = Callable[[str], object]


@dataclass(frozen=True, repr=False, eq=False)
class Operation(Tabular):
    """Cut networks and what is known about them.

    Attributes:
        record: All that a report tells.
        tflite: The bytes of each network's `.tflite` file, by the network's name, with the
            parent's under `"parent"`; empty where none was asked for.
    """

    record: SurgeryRecord
    tflite: Mapping[str, bytes] = field(default_factory=dict)

    def to_table(self) -> Table:
        """Return what each network keeps, costs and is worth as a table, the parent first.

        A network of one label is figured as a detector of it; the parent and a network of several
        labels by the means over them.
        """
        record = self.record
        whole = record.every[-1].comparison
        units = sum(record.every[0].plan.sizes.values())
        rows = [_row(PARENT, units, whole.parent_costs, whole.parent.rows, "")]
        for network in record.every:
            kept = sum(map(len, network.plan.kept.values()))
            exact = network.proof is not None and network.proof.exact
            figured = network.comparison
            proof = "exact" if exact else tables.UNDEFINED
            rows.append(_row(network.name, kept, figured.costs, figured.after.rows, proof))
        columns = ("network", "units", "parameters", *(name for name, _ in _FIGURES))
        return Table((*columns, ".tflite", "proof"), tuple(rows))

    def to_json(self) -> Json:
        """Return the figures of every network as plain data."""
        return {
            "parent": self.record.parent.name,
            "observed_samples": int(self.record.activity.samples.sum()),
            "notes": list(self.record.notes),
            "networks": [self._network(network) for network in self.record.every],
        }

    def _network(self, network: Subnetwork) -> Json:
        plan, proof = network.plan, network.proof
        flat = self.tflite.get(network.name)
        return {
            "name": network.name,
            "labels": list(plan.labels),
            "units": {n: [len(plan.kept[n]), size] for n, size in plan.sizes.items()},
            "choices": [choice.to_json() for choice in plan.choices],
            "proof": None if proof is None else _proof_json(proof),
            "tflite": None
            if flat is None
            else {"bytes": len(flat), "difference": network.tflite_difference},
            "comparison": network.comparison.to_json(),
        }


def operate(
    parent: keras.Model,
    activity: Activity,
    plans: Sequence[Plan],
    data: Any,
    y: Any = None,
    *,
    label_names: Sequence[str] | None = None,
    batch_size: int = 256,
    head: Head = "parent",
    samples: Any = None,
    export: bool = False,
    merged: bool = True,
    notes: Sequence[str] = (),
    confidence: float | None = None,
    allow_overlap: bool = False,
    tell: Tell | None = None,
) -> Operation:
    """Cut a network for each plan, and one for all of them; prove, export and judge each.

    Args:
        parent: The model.
        activity: What was observed of it.
        plans: What to keep; one network each.
        data: Held-out data with the parent's labels, as `evaluate` takes it. Read more than once.
        y: Labels, when `data` is inputs alone.
        label_names: Name of every label of the parent, where the data does not tell.
        batch_size: Samples in a batch, for arrays.
        head: What the networks answer, as in `cut`.
        samples: Inputs as the model takes them, to prove and verify on; None generates inputs to
            prove on.
        export: Whether to make `.tflite` files, each verified against its Keras model on `samples`.
        merged: Whether to cut the network of all plans together, where there is more than one.
        notes: Sentences on the data, for the report.
        confidence: As in `evaluate`.
        allow_overlap: As in `evaluate`.
        tell: Called with what is being done.

    Raises:
        SelectionError: There is no plan, or `export` is true and there are no samples.
        PlanError: A plan is of another model, or would empty a layer.
        ProofError: A cut network is not equal to its masked parent.
        tflite_export.ExportError: A network cannot be exported, or its file answers otherwise.
    """
    if not plans:
        raise SelectionError("There is no plan to cut by. Pass at least one.")
    if export and samples is None:
        raise SelectionError("export=True verifies each file: pass samples=, inputs of the model.")
    flats: dict[str, bytes] = {}
    if export:
        flats[PARENT] = to_tflite(parent, samples, label_names=activity.label_names)[0]

    def subnetwork(name: str, plan: Plan) -> Subnetwork:
        if tell is not None:
            tell(f"cutting, proving and judging {name}")
        small = cut(parent, plan, head=head)
        proof = prove(parent, plan, head=head, samples=16 if samples is None else samples)
        if not proof.exact:
            raise ProofError(f"The network of {name!r} is {proof}. Please report this model.")
        difference = None
        if export:
            flats[name], difference = to_tflite(small, samples)
        comparison = compare(
            parent,
            small,
            data,
            y,
            label_names=label_names,
            batch_size=batch_size,
            confidence=confidence,
            allow_overlap=allow_overlap,
            parent_tflite_bytes=len(flats[PARENT]) if export else None,
            tflite_bytes=len(flats[name]) if export else None,
        )
        chosen = " and ".join(dict.fromkeys(f"{c.score}, {c.keep}" for c in plan.choices))
        return Subnetwork(name, plan, small, comparison, proof, difference, way=chosen)

    names = network_names(plans)
    each = tuple(subnetwork(name, plan) for name, plan in zip(names, plans, strict=True))
    whole = subnetwork(MERGED, union(plans)) if merged and len(plans) > 1 else None
    card = card_table(device_card(flats, samples, seconds=_TIMED)) if export else None
    seen = unit_tiles(parent, activity, data, y, label_names=label_names)
    record = SurgeryRecord(parent, activity, each, whole, tuple(notes), card, tiles=seen)
    return Operation(record, flats)


def operation_of(
    found: Contest,
    activity: Activity,
    samples: Any,
    *,
    notes: Sequence[str] = (),
    seen: tuple[Any, Any] | None = None,
    zeta: float = 0.4,
) -> Operation:
    """Prove the cuts of networks that were repaired, and verify their files: what a page tells of.

    Args:
        found: The networks, judged; ours of a tenth and the merged one are told of.
        activity: What was observed of their parent.
        samples: Inputs as the parent takes them, to prove and verify on.
        notes: Sentences on the data.
        seen: Samples and labels, of which the page shows those that excite units.
        zeta: The share of the paper's rule.

    Raises:
        ProofError: A cut is not equal to its masked parent.
        tflite_export.VerificationError: A float32 file does not answer as its network.
    """
    parent = found.parent.model
    flats = {PARENT: found.parent.files[FLOAT].flat}

    def subnetwork(one: Contender) -> Subnetwork:
        record = lineage(one.model)
        assert record is not None
        proof = prove(parent, one.plan, head=record.head, samples=samples)
        if not proof.exact:
            raise ProofError(f"The network of {one.name!r} is {proof}. Please report this model.")
        file = one.files[FLOAT]
        flats[one.name] = file.flat
        difference = tflite_export.verify(file.flat, one.model, samples).relative
        return replace(_unproven(one, paths), proof=proof, tflite_difference=difference)

    paths = file_paths(found)
    each = tuple(map(subnetwork, found.of(TENTH).values()))
    (merged,) = map(subnetwork, found.of(MERGED).values())
    others = [one for way in (SAME, PAPER) for one in found.of(way).values()]
    repaired = (
        "Behind the cut the networks were repaired by least squares and their heads fitted anew: "
        "what is proven is the cut, and what is judged is the repaired network."
    )
    card = card_table(device_card(flats, samples, seconds=_TIMED))
    words = f"One more network is for all labels. {found.merged}"
    said = (*notes, repaired, found.headline, found.fairness)
    record = SurgeryRecord(
        parent,
        activity,
        each,
        merged,
        said,
        card,
        words,
        further=tuple(_unproven(one, paths) for one in others),
        tiles=None if seen is None else unit_tiles(parent, activity, *seen),
        parent_file=PARENT_FILE,
        zeta=zeta,
    )
    return Operation(record, flats)


def file_paths(found: Contest) -> dict[tuple[str, str], str]:
    """Return where the float32 file of each network stands beside the page, by way and name."""
    paths = {(MERGED, MERGED): f"{MERGED}.tflite"}
    for way, folder in _FOLDERS.items():
        names = list(found.of(way))
        for safe, name in zip(safe_names(names), names, strict=True):
            paths[way, name] = f"{folder}/{safe}.tflite"
    return paths


def _unproven(one: Contender, paths: Mapping[tuple[str, str], str]) -> Subnetwork:
    return Subnetwork(
        one.name,
        one.plan,
        one.model,
        one.comparisons[FLOAT],
        way=_WAYS[one.way],
        file=paths[one.way, one.name],
    )


def unit_tiles(
    model: keras.Model,
    activity: Activity,
    data: Any,
    y: Any = None,
    *,
    label_names: Sequence[str] | None = None,
) -> Tiles | None:
    """Draw the samples that excite each watched unit most.

    Args:
        model: The parent.
        activity: What was observed of it.
        data: As `evaluate` takes it; so many of its samples are looked at as fit in little memory.
        y: Labels, when `data` is inputs alone.
        label_names: Name of every label, where the data does not tell.

    Returns:
        The pictures; None where the model takes no images, or they would be too large.
    """
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or None in shapes[0][1:] or not are_pictures(np.empty((0, *shapes[0][1:]))):
        return None
    count = min(_MOST_SAMPLES, _MOST_BYTES // (4 * math.prod(shapes[0][1:])))
    given = data if y is None else (data, y)
    x, labels, _ = labelled_samples(model, given, max(count, 1), label_names=label_names)
    found = most_exciting(model, x, layers=list(activity.layers))
    numbers = np.asarray(labels)
    if numbers.ndim == 2:
        numbers = np.where(numbers.sum(axis=1) == 1, numbers.argmax(axis=1), -1)
    return tiles(np.asarray(keras.tree.flatten(x)[0]), numbers, found.samples)


def network_names(plans: Sequence[Plan]) -> list[str]:
    """Name the network of each plan by its labels, no two alike.

    Example:
        >>> network_names([plan])
        ['3']
    """
    names: list[str] = []
    for number, plan in enumerate(plans, 1):
        name = "+".join(plan.names) or f"plan {number}"
        taken = name in names or name in (MERGED, PARENT)
        names.append(f"{name} ({number})" if taken else name)
    return names


def to_tflite(
    model: keras.Model, samples: Any, *, label_names: Sequence[str] = ()
) -> tuple[bytes, float]:
    """Export a model as float32, with its labels and its plan inside, and verify the file.

    Args:
        model: A parent or a subnetwork.
        samples: Inputs as the model takes them.
        label_names: Name of each output of a parent; a subnetwork remembers its own.

    Returns:
        The file's bytes, and its largest difference from the model as a share of the output's
        scale.

    Raises:
        tflite_export.ExportError: There is no such file, or it answers otherwise.
    """
    flat = tflite_export.convert(model, **extras(model, label_names))
    return flat, tflite_export.verify(flat, model, samples).relative


_FIGURES: tuple[tuple[str, Callable[[LabelFigures], float]], ...] = (
    ("recall", lambda row: row.recall),
    ("specificity", lambda row: row.specificity),
    ("balanced", lambda row: row.balanced_accuracy),
    ("AUC", lambda row: row.auc),
)


def _row(
    name: str, units: int, costs: Costs, figures: Sequence[LabelFigures], proof: str
) -> tuple[str, ...]:
    return (
        name,
        tables.count(units),
        tables.count(costs.parameters),
        *(tables.share(_mean([get(one) for one in figures])) for _, get in _FIGURES),
        tables.count(costs.tflite_bytes),
        proof,
    )


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is defined; NaN where nothing is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _proof_json(proof: Proof) -> Json:
    return {
        "exact": proof.exact,
        "absolute": proof.absolute,
        "relative": proof.relative,
        "varied": proof.varied,
        "constant": list(proof.constant),
        "samples": proof.samples,
        "tolerance": proof.tolerance,
        "dtype": proof.dtype,
        "in_float32": proof.in_float32,
        "rounding": proof.rounding,
    }
