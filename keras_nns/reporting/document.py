"""The page people read: what was done to a model and what came of it, in words from the figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.graph.costs import Costs
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.figures import spread
from keras_nns.judgement.rows import LabelFigures
from keras_nns.reporting import findings, plots, weights
from keras_nns.reporting.page import (
    Block,
    Bullets,
    Heading,
    Paragraph,
    Picture,
    Report,
    Stage,
    write,
)
from keras_nns.reporting.record import Subnetwork, SurgeryRecord
from keras_nns.selection import overlap
from keras_nns.tables import Table

__all__ = ["Report", "Subnetwork", "SurgeryRecord", "surgery_report", "write"]

_HEADS = {
    "parent": "with one of all the parent's labels",
    "labels": "with one of its own labels, and knows no others",
    "other": "with one of its own labels, or with “other”",
    "binary": "with one probability, that the sample is of its labels",
}
_MOST_PICTURES = 6
"""Layers that are drawn; a deep network has more than anyone looks at."""


def surgery_report(record: SurgeryRecord) -> Report:
    """Tell what was done to a model and what came of it.

    Every sentence is made from the record's figures. What the record lacks (proofs, a merged
    network, `.tflite` files) is left out, or named as missing where its absence matters.

    Args:
        record: What was done, with at least one subnetwork.

    Raises:
        SelectionError: The record has no subnetwork.
    """
    plans = [s.plan for s in record.subnetworks]
    overlaps = overlap.jaccard(plans)
    parts: list[Block] = [
        Stage("cards"),
        Stage("sizes", "Choose a size"),
        *_done(record),
        *_found(record, overlaps),
        *_watched(record),
        Stage("rule", "The paper's rule"),
        *_kept(record, overlaps),
        *_cut(record),
        *_judged(record),
        *_costs(record),
        *_deployed(record),
        *_meanings(record),
    ]
    return Report(f"Surgery on {record.parent.name}", tuple(parts))


def _done(record: SurgeryRecord) -> list[Block]:
    activity, parent = record.activity, _parent_costs(record)
    groups = activity.layout.prunable
    units = sum(group.size - len(group.protected) for group in groups)
    samples = int(activity.samples.sum())
    sentences = [
        f"{record.parent.name} tells {len(activity.label_names)} labels apart with "
        f"{tables.count(parent.parameters)} parameters. It has {tables.count(units)} hidden units "
        f"that can be removed, in {findings.plural(len(groups), 'group')}.",
        f"It was watched on {findings.plural(samples, 'labelled sample')}: for each label and each "
        "hidden unit, how active the unit is.",
    ]
    choices = {(choice.score, choice.keep) for s in record.subnetworks for choice in s.plan.choices}
    rules = [f"{score}, kept by the rule {keep}" for score, keep in sorted(choices)]
    how = f" The score of a unit was {findings.listed(rules)}." if rules else ""
    sentences.append(
        f"From that, {findings.plural(len(record.subnetworks), 'smaller network')} "
        f"{'was' if len(record.subnetworks) == 1 else 'were'} cut out, for "
        f"{findings.all_called([s.name for s in record.subnetworks])}.{how}"
    )
    heads = {s.comparison.after.head for s in record.subnetworks}
    if len(heads) == 1:
        who = "Each answers" if len(record.subnetworks) > 1 else "It answers"
        sentences.append(f"{who} {_HEADS[heads.pop()]}.")
    if record.merged is not None:
        sentences.append(record.merged_words)
    notes: list[Block] = [Paragraph(" ".join(record.notes))] if record.notes else []
    return [Heading("What was done"), Paragraph(" ".join(sentences)), *notes]


def _found(record: SurgeryRecord, overlaps: NDArray[np.float64]) -> list[Block]:
    every = record.every
    names = [s.name for s in every]
    several = len(record.subnetworks) > 1
    rows = [
        (s.name if several else "", *pair)
        for s in record.subnetworks
        for pair in findings.pairs(s.comparison)
    ]
    merged = record.merged
    sentences = [
        *findings.exactness(names, [s.proof for s in every]),
        *findings.sizes(
            [s.name for s in record.subnetworks], [s.comparison for s in record.subnetworks]
        ),
        *findings.losses(rows),
        *findings.yes_to_everything(rows),
        *findings.no_to_everything(rows),
        *([] if merged is None else findings.merged(merged.comparison)),
        *findings.sharing([s.name for s in record.subnetworks], overlaps),
        *findings.exports(names, [s.tflite_difference for s in every]),
    ]
    return [Heading("What was found"), Bullets(tuple(sentences))]


def _watched(record: SurgeryRecord) -> list[Block]:
    activity = record.activity
    blocks: list[Block] = [Heading("What each label makes active")]
    silent = [n for n, seen in zip(activity.label_names, activity.samples, strict=True) if not seen]
    if silent:
        blocks.append(Paragraph(f"No sample was seen of {findings.all_called(silent)}: grey rows."))
    layers = list(activity.layers)
    statistic = "mean" if "mean" in activity.statistics else "firing_rate"
    pictures: list[Block] = []
    for layer in layers[:_MOST_PICTURES]:
        picture = plots.activity_heatmap(activity, layer, statistic=statistic)
        words = "Mean output" if statistic == "mean" else "Share of samples that fire each unit"
        caption = f"{words} of {layer}: labels down, units across."
        pictures.append(Picture.of(f"activity of {layer}", picture, caption))
    return [*blocks, Stage("units", instead=(*pictures, *_rest_of(layers, "layers")))]


def _kept(record: SurgeryRecord, overlaps: NDArray[np.float64]) -> list[Block]:
    subnetworks = record.subnetworks
    plans = [s.plan for s in subnetworks]
    groups = list(plans[0].sizes)
    columns = ("network", *groups[:_MOST_PICTURES], "all units")
    rows = tuple(
        (
            s.name,
            *(f"{len(s.plan.kept[g]):,} of {s.plan.sizes[g]:,}" for g in groups[:_MOST_PICTURES]),
            tables.ratio(sum(map(len, s.plan.kept.values())), sum(s.plan.sizes.values())),
        )
        for s in record.every
    )
    blocks: list[Block] = []
    for group in groups[:_MOST_PICTURES]:
        kept = overlap.kept_matrix(plans, group)
        nobody, all_ = int((~kept.any(axis=0)).sum()), int(kept.all(axis=0).sum())
        caption = (
            f"Units of {group} that each network keeps. Of {kept.shape[1]:,}, none keeps "
            f"{nobody:,}" + (f" and all keep {all_:,}." if len(plans) > 1 else ".")
        )
        blocks.append(Picture.of(f"kept units of {group}", plots.kept_units(plans, group), caption))
    blocks += _rest_of(groups, "groups of units")
    if len(plans) > 1:
        caption = "How much each two networks share: 1 is the same units, 0 none in common."
        blocks.append(Picture.of("overlap", plots.overlap(plans), caption))
    first = (Heading("What was kept"), Table(columns, rows))
    return [*first, Stage("overlap", instead=tuple(blocks))]


def _cut(record: SurgeryRecord) -> list[Block]:
    shown = min(record.subnetworks, key=lambda s: s.comparison.costs.parameters)
    which = ", the smallest of the cut networks" if len(record.subnetworks) > 1 else ""
    words = (
        f"The weights of {findings.called(shown.name)}{which}: in the parent; with what belongs to "
        "removed units masked; and cut, where the weights that stay make up a smaller matrix."
    )
    if shown.proof is not None and shown.proof.exact:
        words += " Masked and cut compute the same."
    blocks: list[Block] = [Heading("What a cut looks like"), Paragraph(words)]
    layers = weights.drawable_layers(record.parent, shown.model)
    pictures: list[Block] = []
    for layer in layers[:_MOST_PICTURES]:
        picture = plots.weights_before_after(record.parent, shown.model, layer)
        pictures.append(Picture.of(f"weights of {layer}", picture, f"Weights of {layer}."))
    return [*blocks, Stage("weights", instead=(*pictures, *_rest_of(layers, "layers")))]


_SHARES: tuple[tuple[str, Callable[[LabelFigures], float]], ...] = (
    ("recall", lambda row: row.recall),
    ("specificity", lambda row: row.specificity),
    ("balanced acc.", lambda row: row.balanced_accuracy),
    ("AUC", lambda row: row.auc),
)


def _judged(record: SurgeryRecord) -> list[Block]:
    comparisons = [s.comparison for s in record.subnetworks]
    blocks: list[Block] = [
        Heading("How well they answer"),
        Paragraph(
            f"Each figure stands as parent → network, over "
            f"{findings.plural(comparisons[0].after.samples, 'held-out sample')}."
            if len({c.after.samples for c in comparisons}) == 1
            else "Each figure stands as parent → network, over held-out samples."
        ),
        _figures_table([(s.name, s.comparison) for s in record.subnetworks]),
    ]
    left_out = {c.after.left_out for c in comparisons} - {0}
    if left_out:
        blocks.append(
            Paragraph(
                "These networks have answers for their own labels only. They, and their parent "
                f"beside them, are judged among those; {findings.plural(max(left_out), 'sample')} "
                f"{'at most ' if len(left_out) > 1 else ''}of other labels are left out."
            )
        )
    caption = "Recall and specificity of each label, in the parent and in the network cut for it."
    picture = Picture.of("recall and specificity", plots.recall_specificity(comparisons), caption)
    blocks.append(Stage("figures", instead=(picture,)))
    if record.merged is not None:
        merged = record.merged.comparison
        blocks += [
            Heading("The merged network", 3),
            Table(
                merged.to_table(brief=True).columns,
                merged.to_table(brief=True).rows,
                f"Parent: {merged.before.caption}\nMerged: {merged.after.caption}",
            ),
            Stage("merged", instead=(_merged_picture(merged),)),
        ]
    return blocks


def _merged_picture(merged: Comparison) -> Picture:
    return Picture.of(
        "recall and specificity of the merged network",
        plots.recall_specificity(merged),
        "Recall and specificity of each label, in the parent and in the merged network.",
    )


def _figures_table(named: Sequence[tuple[str, Comparison]]) -> Table:
    rows = tuple(
        (
            name,
            old.name,
            tables.count(old.samples),
            *(f"{tables.share(get(old))} → {tables.share(get(new))}" for _, get in _SHARES),
        )
        for name, comparison in named
        for old, new in findings.pairs(comparison)
    )
    columns = ("network", "label", "samples", *(name for name, _ in _SHARES))
    spreads = [
        spread(new.intervals.get("balanced_accuracy"))
        for _, comparison in named
        for _, new in findings.pairs(comparison)
    ]
    if any(spreads):
        rows = tuple((*row, told) for row, told in zip(rows, spreads, strict=True))
        share = named[0][1].after.confidence or 0.0
        columns = (*columns, f"balanced acc., {share:.3g} interval")
    if all(row[0] == row[1] for row in rows):
        rows, columns = tuple(row[1:] for row in rows), columns[1:]
    return Table(columns, rows)


def _costs(record: SurgeryRecord) -> list[Block]:
    parent = _parent_costs(record)
    costs: dict[str, Costs] = {f"{record.parent.name} (parent)": parent}
    costs.update({s.name: s.comparison.costs for s in record.every})
    kinds: list[tuple[str, Callable[[Costs], int | None]]] = [
        ("parameters", lambda cost: cost.parameters),
        ("multiply-adds", lambda cost: cost.macs),
        ("bytes of weights", lambda cost: cost.weight_bytes),
    ]
    if any(cost.tflite_bytes is not None for cost in costs.values()):
        kinds.append(("bytes of .tflite", lambda cost: cost.tflite_bytes))
    rows = tuple(
        (
            name,
            *(tables.count(get(cost)) for _, get in kinds),
            tables.ratio(cost.parameters, parent.parameters),
        )
        for name, cost in costs.items()
    )
    table = Table(("network", *(name for name, _ in kinds), "of the parent's parameters"), rows)
    picture = plots.sizes(costs)
    caption = "What each network costs; in brackets, its share of the parent."
    instead = Picture.of("costs", picture, caption)
    return [Heading("What they cost"), table, Stage("costs", instead=(instead,))]


def _deployed(record: SurgeryRecord) -> list[Block]:
    if record.card is None:
        return []
    words = (
        "Each .tflite file, measured on the machine that wrote this page, with one sample at a "
        "time on its CPU. Times are the median of the bare calls, in brackets what 95% of them "
        "stay under. Activation bytes are what must be in memory at once, without the runtime's "
        "own."
    )
    return [Heading("What the files cost on a device", 3), Paragraph(words), record.card]


def _parent_costs(record: SurgeryRecord) -> Costs:
    """Return what the parent costs, from a comparison that knows its `.tflite` file if any does."""
    every = [s.comparison.parent_costs for s in record.every]
    return next((cost for cost in every if cost.tflite_bytes is not None), every[0])


def _meanings(record: SurgeryRecord) -> list[Block]:
    words = [
        "Recall: of the samples of a label, the share that is answered with it.",
        "Specificity: of all other samples, the share that is not answered with it.",
        "Balanced accuracy: the mean of the two. Guessing gives 0.5, whatever the label.",
        "AUC: how often a sample of the label gets a higher score for it than another sample does. "
        "It does not depend on where the line between yes and no is drawn.",
        "Multiply-adds: products of one sample's forward pass.",
    ]
    every = [s.comparison for s in record.every]
    unknown = dict.fromkeys(
        n for c in every for n in (*c.parent_costs.macs_unknown, *c.costs.macs_unknown)
    )
    if unknown:
        words.append(
            f"Multiply-adds leave out {findings.listed(list(unknown))}, which could not be counted."
        )
    if any(math.isnan(row.recall) for c in every for row in c.after.rows):
        words.append("A dash stands where a figure is undefined: the data has no such sample.")
    return [Heading("What the words mean"), Bullets(tuple(words))]


def _rest_of(shown: Sequence[str], what: str) -> list[Block]:
    rest = len(shown) - _MOST_PICTURES
    return [Paragraph(f"{rest:,} more {what} are not drawn.")] if rest > 0 else []
