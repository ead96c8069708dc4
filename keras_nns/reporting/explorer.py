"""What an interactive page shows, as plain data: every number on it is one of the record's."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keras_nns.files.atomic import Json
from keras_nns.graph.costs import Costs
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.rows import LabelFigures
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import mask_of
from keras_nns.reporting import weights
from keras_nns.reporting.record import Subnetwork, SurgeryRecord
from keras_nns.reporting.thumbnails import data_uri, weights_png
from keras_nns.selection.activations import mean_activation

_MOST_LABELS = 40
_MOST_NETWORKS = 40
_MOST_CELLS = 60_000
"""Pairs of a label and a unit of which the activity is in the page."""

_MOST_WEIGHTS = 300_000
"""Weights of one layer that are drawn."""

_DRAWN_LAYERS = 6

_FIGURES = ("recall", "specificity", "balanced_accuracy", "auc")


def page_data(record: SurgeryRecord) -> Json:
    """Return what an interactive page of a record shows.

    Kept units are bits, the first unit lowest, in base64. What is left out of it because it would
    make the page large is counted under `"left_out"`.

    Args:
        record: What was done, with at least one subnetwork.
    """
    rows = _labels_shown(record)
    layers, groups, more_layers = _layers(record, rows)
    networks = _networks(record, groups)
    names = record.activity.label_names
    size = "bytes" if all(p["bytes"] is not None for n in networks for p in n["points"]) else ""
    return {
        "title": record.parent.name,
        "labels": [names[label] for label in rows],
        "size": size or "parameters",
        "parent": _parent(record),
        "groups": [
            {"name": name, "size": record.subnetworks[0].plan.sizes[name]} for name in groups
        ],
        "layers": layers,
        "rule": _rule(record, rows, groups),
        "networks": networks,
        "merged": _figures_of(record.merged) if record.merged is not None else None,
        "tiles": _tiles(record, rows, [layer["name"] for layer in layers]),
        "weights": _weights(record),
        "left_out": {
            "labels": len(names) - len(rows),
            "layers": more_layers,
            "networks": len(_by_labels(record)) - len(networks),
        },
    }


def _labels_shown(record: SurgeryRecord) -> list[int]:
    """Return the labels that have a row: those that networks are for, then others, in order."""
    own = dict.fromkeys(label for s in record.subnetworks for label in s.plan.labels)
    every = [*own, *(n for n in range(len(record.activity.label_names)) if n not in own)]
    return sorted(every[:_MOST_LABELS])


def _layers(record: SurgeryRecord, rows: list[int]) -> tuple[list[Json], list[str], int]:
    """Return the layers that are shown, the prunable groups they show, and how many are not."""
    activity = record.activity
    prunable = [group.name for group in activity.layout.prunable]
    shown: list[Json] = []
    groups: list[str] = []
    cells = 0
    for name in activity.layers:
        group, member = activity.layout.of_layer(name)
        cells += len(rows) * len(member.units)
        if cells > _MOST_CELLS:
            break
        found: Json = {"name": name, "group": None, "statistics": {}}
        if group.name in prunable:
            found["group"] = group.name
            if member.units != tuple(range(group.size)):
                found["units"] = list(member.units)
            groups += [] if group.name in groups else [group.name]
        for key, words, statistic, read in (
            ("mean", "mean output", "mean", activity.mean),
            ("firing", "share of samples on which the unit fired", "fired", activity.firing_rate),
        ):
            if statistic in activity.statistics:
                found["statistics"][key] = {"words": words, "values": _numbers(read(name)[rows])}
        shown.append(found)
    return shown, groups, len(activity.layers) - len(shown)


def _by_labels(record: SurgeryRecord) -> dict[tuple[int, ...], list[Subnetwork]]:
    found: dict[tuple[int, ...], list[Subnetwork]] = {}
    for one in record.subnetworks:
        found.setdefault(one.plan.labels, []).append(one)
    for one in record.further:
        if one.plan.labels in found:
            found[one.plan.labels].append(one)
    return found


def _networks(record: SurgeryRecord, groups: Sequence[str]) -> list[Json]:
    """Return what there is for each set of labels, from the smallest network to the parent."""
    networks = []
    for labels, several in list(_by_labels(record).items())[:_MOST_NETWORKS]:
        first = several[0]
        points = [_point(one, groups, chosen=one is first) for one in several]
        points.append(_whole(record, first, groups))
        points.sort(key=lambda point: (point["bytes"] or point["parameters"], point["parameters"]))
        networks.append(
            {
                "name": first.name,
                "labels": [record.activity.label_names[label] for label in labels],
                "measure": first.comparison.after.measure,
                "confidence": first.comparison.after.confidence,
                "points": points,
            }
        )
    return networks


def _point(one: Subnetwork, groups: Sequence[str], *, chosen: bool) -> Json:
    return {
        "way": one.way or "cut",
        "kind": "network",
        "chosen": chosen,
        "kept": {group: _bits(one.plan, group) for group in groups},
        "units": sum(map(len, one.plan.kept.values())),
        "exact": one.proof is not None and one.proof.exact,
        "file": one.file,
        **_costs(one.comparison.costs),
        **_worth(one.comparison.after, one.plan),
    }


def _whole(record: SurgeryRecord, one: Subnetwork, groups: Sequence[str]) -> Json:
    """Return the parent, asked what a network is asked."""
    sizes = one.plan.sizes
    return {
        "way": "the parent",
        "kind": "parent",
        "chosen": False,
        "kept": {group: _packed(np.ones(sizes[group], dtype=bool)) for group in groups},
        "units": sum(sizes.values()),
        "exact": True,
        "file": record.parent_file,
        **_costs(one.comparison.parent_costs),
        **_worth(one.comparison.before, one.plan),
    }


def _parent(record: SurgeryRecord) -> Json:
    every = [one.comparison.parent_costs for one in record.every]
    costs = next((cost for cost in every if cost.tflite_bytes is not None), every[0])
    return {
        "name": record.parent.name,
        "units": sum(record.subnetworks[0].plan.sizes.values()),
        "file": record.parent_file,
        **_costs(costs),
    }


def _figures_of(one: Subnetwork) -> Json:
    """Return the figures of every label of a network beside its parent's."""
    both = zip(one.comparison.before.rows, one.comparison.after.rows, strict=True)
    return {
        "name": one.name,
        "file": one.file,
        "rows": [
            {"label": after.name, "parent": _shares(before), "network": _shares(after)}
            for before, after in both
        ][:_MOST_LABELS],
        **_costs(one.comparison.costs),
    }


def _rule(record: SurgeryRecord, rows: list[int], groups: Sequence[str]) -> Json | None:
    """Return what the paper's rule goes by."""
    activity = record.activity
    if "mean" not in activity.statistics or not groups:
        return None
    scores = mean_activation(activity)
    return {
        "zeta": record.zeta,
        "scores": {group: _numbers(scores[group][rows]) for group in groups},
        "protected": {group: sorted(activity.layout[group].protected) for group in groups},
    }


def _tiles(record: SurgeryRecord, rows: list[int], layers: Sequence[str]) -> Json | None:
    found = record.tiles
    if found is None:
        return None
    names = record.activity.label_names
    return {
        "src": data_uri(found.png),
        "width": found.size[0],
        "height": found.size[1],
        "columns": found.columns,
        "count": len(found.labels),
        "labels": [names[label] if label >= 0 else "" for label in found.labels],
        "units": {
            layer: [list(row) for row in found.units[layer]]
            for layer in layers
            if layer in found.units
        },
    }


def _weights(record: SurgeryRecord) -> Json:
    """Return pictures of the weights of the smallest cut network: in the parent, masked, cut."""
    shown = min(record.subnetworks, key=lambda s: s.comparison.costs.parameters)
    layers = weights.drawable_layers(record.parent, shown.model)
    drawn = []
    for layer in layers[:_DRAWN_LAYERS]:
        whole, stays, small = weights.before_after(record.parent, shown.model, layer)
        if whole.size > _MOST_WEIGHTS:
            continue
        limit = float(np.quantile(np.abs(whole), 0.99)) or 1.0
        masked = np.where(stays, whole, np.nan)
        drawn.append(
            {
                "layer": layer,
                "shape": list(whole.shape),
                "small": list(small.shape),
                "parent": data_uri(weights_png(whole, limit)),
                "masked": data_uri(weights_png(masked, limit)),
                "cut": data_uri(weights_png(small, limit)),
            }
        )
    return {"name": shown.name, "layers": drawn, "left_out": len(layers) - len(drawn)}


def _costs(costs: Costs) -> Json:
    return {"parameters": costs.parameters, "macs": costs.macs, "bytes": costs.tflite_bytes}


def _worth(figures: Evaluation, plan: Plan) -> Json:
    """Return the mean figures over the labels that a plan is for."""
    own = [row for row in figures.rows if row.name in plan.names] or list(figures.rows)
    found = {name: _mean([getattr(row, name) for row in own]) for name in _FIGURES}
    if not own:
        found["balanced_accuracy"] = _plain(figures.worth)
    intervals = own[0].intervals if len(own) == 1 else {}
    return {**found, "intervals": {n: list(map(_plain, pair)) for n, pair in intervals.items()}}


def _shares(row: LabelFigures) -> Json:
    return {name: _plain(getattr(row, name)) for name in _FIGURES}


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return _plain(sum(known) / len(known)) if known else None


def _plain(value: float) -> float | None:
    """Return a figure with as many digits as it may need; None where it is undefined."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _numbers(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[_plain(value) for value in row] for row in values.tolist()]


def _bits(plan: Plan, group: str) -> str:
    return _packed(mask_of(plan.kept[group], plan.sizes[group]))


def _packed(mask: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode()
