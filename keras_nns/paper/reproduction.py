"""Reproduce the paper: every table and figure, and beside each what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keras_nns.errors import DataError, ProofError
from keras_nns.files.folders import replacing_folder
from keras_nns.paper import beyond
from keras_nns.paper import plots as paper_plots
from keras_nns.paper import tables as paper_tables
from keras_nns.paper.beyond import Rivals, Sweep
from keras_nns.paper.method import HIDDEN, extract, integrate, read_subject, train_subject, units_of
from keras_nns.paper.tables import ZETAS, Study, study
from keras_nns.reporting import plots
from keras_nns.reporting.page import Block, Bullets, Heading, Paragraph, Picture, Report, write
from keras_nns.tables import Table

MADE = ("report.md", "report.html", "figures/*.png", "bundles/*.safetensors")
"""Every file that a reproduction writes."""

DRAWN = (1, 9)
"""The labels of the paper's Fig. 9."""

_TITLE = "Neural network surgery: the paper, reproduced"

Tell = Callable[[str], object]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What was found.

    Attributes:
        study: The method and its judge.
        tables: Every table by its name.
        folder: Where the report is.
    """

    study: Study
    tables: dict[str, Table]
    folder: Path


def reproduce(
    folder: str | PathLike[str] | None = None,
    *,
    output: str | PathLike[str] = "nns_paper",
    dataset: str | PathLike[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    tell: Tell | None = None,
) -> Reproduction:
    """Make every table and figure of the paper, and write a report with them.

    Args:
        folder: Holds the paper's weights, `simpleMLPWghts.json`, and rows,
            `train_first1000.csv`. None trains a network the paper's way on `dataset`.
        output: The folder to write.
        dataset: As `load_dataset` takes it, where `folder` is None; scikit-learn's digits by
            default.
        seed: Seed of that network's first weights.
        overwrite: Whether an earlier run's folder may be replaced.
        tell: Called with what is being done.

    Raises:
        FileError: A file is missing or damaged, or the output is in the way.
        DataError: There is no such data, or both `folder` and `dataset` were given.
        ProofError: A cut network answers otherwise than the parent with zeros.
    """
    if folder is not None and dataset is not None:
        raise DataError(
            "The paper's own files, or a data set to train on: pass one. Received: "
            f"folder={str(folder)!r} and dataset={str(dataset)!r}."
        )
    say = tell or (lambda _: None)
    with replacing_folder(output, made=MADE, overwrite=overwrite) as part:
        say("training" if folder is None else "reading the paper's files")
        subject = (
            train_subject(dataset or "digits", seed=seed)
            if folder is None
            else read_subject(folder)
        )
        say("watching")
        done = study(subject)
        say("cutting and checking")
        cuts = check_cuts(done)
        say("making the best of as many units")
        rivals = {zeta: beyond.rivals(done, zeta) for zeta in ZETAS}
        say("tables")
        sweep = beyond.sweep(done)
        bundles = part / "bundles"
        tables = {
            "Table 1": paper_tables.table_1(done),
            "Tables 2 and 3": paper_tables.sizes_table(done, bundles),
            **{f"Table 4, ζ {zeta}": paper_tables.table_4(done, zeta) for zeta in ZETAS},
            **{f"Table 5, ζ {zeta}": paper_tables.table_5(done, zeta) for zeta in ZETAS},
            **{f"Our best, ζ {zeta}": beyond.rivals_table(done, rivals[zeta]) for zeta in ZETAS},
            "The order of labels": beyond.order_table(done, ZETAS[0]),
            "Every ζ": beyond.sweep_table(sweep),
        }
        made = Reproduction(done, tables, Path(output))
        say("figures")
        write(_report(made, rivals[ZETAS[0]], sweep, cuts=cuts), part)
    return made


def check_cuts(done: Study) -> int:
    """Cut every network of Tables 4 and 5, and compare its answers with those that are figured.

    Returns:
        How many networks were compared.

    Raises:
        ProofError: One answers otherwise.
    """
    subject, count = done.subject, 0
    for zeta in ZETAS:
        # By their units: many steps are alike.
        both = (*done.plans[zeta], *integrate(done.plans[zeta]))
        plans = {units_of(plan): plan for plan in both}
        for units, plan in plans.items():
            answers = np.asarray(extract(subject.model, plan)(subject.x_test)).argmax(axis=1)
            different = int((answers != done.judge.answers(units)).sum())
            if different:
                raise ProofError(
                    f"The cut network of units {units} answers {different} of {len(answers)} "
                    "samples otherwise than its parent with zeros. Please report this."
                )
            count += 1
    return count


def _report(made: Reproduction, rivals: Rivals, sweep: Sweep, *, cuts: int) -> Report:
    done, tables = made.study, made.tables
    drawn = [label for label in DRAWN if label < len(done.names)] or [0]
    grown = {label: paper_tables.growth(done, label) for label in drawn}
    blocks: list[Block] = [
        Paragraph(
            f"Every table and figure of NNS: neural network surgery, made from "
            f"{done.subject.name}. What the paper calls accuracy of a label is its recall: the "
            "share of its own samples. Beside it stand specificity, the share of other samples "
            "that are not called by it, and balanced accuracy, the mean of the two."
        ),
        Bullets(
            (
                *done.subject.notes,
                f"{cuts} different networks of Tables 4 and 5 were cut out, and each answers every "
                "sample as its parent with zeros does.",
            )
        ),
        Heading("The whole network"),
        tables["Table 1"],
        Heading("Snapshots, averages, filter"),
        _picture("snapshots", paper_plots.snapshots(done, drawn[0]), "Figure 2. Columns that are "
                 "bright all the way down are units that inputs of the label have in common."),
        _picture("averages", paper_plots.averages(done, drawn[0]), "Figures 3 and 4. Averages, and "
                 "the units whose average is at least ζ of the highest."),
        _picture("activity of all labels", plots.activity_heatmap(done.activity, HIDDEN),
                 "The paper shows one label. Side by side, many loud units are loud for all."),
        _picture("kept units", plots.kept_units(list(done.plans[ZETAS[0]]), HIDDEN),
                 "So the labels' networks share units."),
        Heading("From a matrix to rows, and back"),
        _picture("vectorised", paper_plots.vectorised(done, drawn[0]), "Figures 5, 7 and 8. The "
                 "last matrix equals the first bit for bit."),
        tables["Tables 2 and 3"],
        Heading("One network for each label"),
    ]  # fmt: skip
    for zeta in ZETAS:
        blocks += [Heading(f"Table 5, ζ {zeta}", 3), tables[f"Table 5, ζ {zeta}"]]
    blocks.append(Heading("As many units, better chosen and repaired"))
    for zeta in ZETAS:
        blocks += [Heading(f"Our best, ζ {zeta}", 3), tables[f"Our best, ζ {zeta}"]]
    blocks += [
        _picture("our best", paper_plots.beside(done, rivals), "Recall alone cannot tell a "
                 "network that knows its label from one that calls everything by it; balanced "
                 "accuracy can."),
        _picture("units added", paper_plots.growing(done, grown), "Figure 9, with what the paper "
                 "leaves out."),
        Heading("Labels integrated one after another"),
    ]  # fmt: skip
    for zeta in ZETAS:
        blocks += [Heading(f"Table 4, ζ {zeta}", 3), tables[f"Table 4, ζ {zeta}"]]
    runs = beyond.orders(done, ZETAS[0])
    blocks += [
        Heading("The order of labels", 3),
        tables["The order of labels"],
        _picture("orders", paper_plots.ordered(runs, ZETAS[0]), "Plans are sets, so the merged "
                 "network is the same whatever the order; what a label scores when it joins is "
                 "not."),
        Heading("Every ζ"),
        tables["Every ζ"],
        _picture("every zeta", paper_plots.swept(done, sweep), "The paper shows two values of ζ, "
                 "marked by dotted lines."),
    ]  # fmt: skip
    return Report(_TITLE, tuple(blocks))


def _picture(name: str, figure: Figure, caption: str) -> Picture:
    return Picture.of(name, figure, caption)
