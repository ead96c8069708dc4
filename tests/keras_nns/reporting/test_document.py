"""The report says what the figures say: change a figure and the sentence changes with it."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_nns.errors import SelectionError
from keras_nns.graph.costs import Costs
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.comparison import compare
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.rows import LabelFigures
from keras_nns.observation.layer_sums import LayerActivity
from keras_nns.observation.streaming import observe
from keras_nns.plans.kept_units import union
from keras_nns.reporting import findings
from keras_nns.reporting.document import Subnetwork, SurgeryRecord, surgery_report, write
from keras_nns.reporting.page import Bullets, Heading, Paragraph, Picture
from keras_nns.selection.choosing import select
from keras_nns.surgery.cutting import cut, prove
from keras_nns.surgery.proving import Proof
from keras_nns.tables import Table

pytestmark = pytest.mark.slow

NAMES = ("cat", "<b>dog</b>", "eel|x", "fox_1")


@pytest.fixture(scope="module")
def record():
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    y = np.arange(160) % 4
    x = (random.normal(size=(160, 6)) + np.eye(6)[y] * 2).astype("float32")
    parent = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="one"),
            layers.Dense(5, activation="relu", name="two"),
            layers.Dense(4, activation="softmax", name="answer"),
        ],
        name="my_net",
    )
    activity = observe(parent, x[:80], y[:80], label_names=NAMES)

    def subnetwork(name, plan):
        small = cut(parent, plan)
        beside = compare(parent, small, x[80:], y[80:])
        return Subnetwork(name, plan, small, beside, prove(parent, plan))

    plans = select(activity, "each", score="mean_activation")
    each = tuple(subnetwork(plan.names[0], plan) for plan in plans)
    notes = ("Invented samples.", "80 were observed, the other 80 held out.")
    return SurgeryRecord(parent, activity, each, subnetwork("merged", union(plans)), notes)


@pytest.fixture(scope="module")
def report(record):
    return surgery_report(record)


def sentences(report):
    words = []
    for block in report.still:
        if isinstance(block, Bullets):
            words += block.items
        elif isinstance(block, (Paragraph, Heading)):
            words.append(block.text)
        elif isinstance(block, Picture):
            words.append(block.caption)
    return "\n".join(words)


def tables_of(report):
    return [block for block in report.still if isinstance(block, Table)]


def test_the_report_tells_the_whole_operation(report):
    text = sentences(report)
    assert report.title == "Surgery on my_net"
    assert "4 labels" in text and "125 parameters" in text and "13 hidden units" in text
    assert "Each answers with one of all the parent's labels." in text
    assert "80 labelled samples" in text and "mean_activation" in text and "above(0.4)" in text
    assert "4 smaller networks were cut out, for cat, <b>dog</b>, eel|x and fox_1" in text
    assert "Invented samples. 80 were observed" in text
    assert "All 5 cut networks compute what the parent computes" in text
    assert ".tflite" not in text
    kinds = [block.name.split()[0] for block in report.still if isinstance(block, Picture)]
    expected = "activity activity kept kept overlap weights weights weights recall recall costs"
    assert kinds == expected.split()


def test_tables_hold_the_figures_of_the_comparisons(record, report):
    kept, label_figures, merged, costs = tables_of(report)
    for row, subnetwork in zip(kept.rows, record.every, strict=True):
        one = len(subnetwork.plan.kept["one"])
        assert row[:2] == (subnetwork.name, f"{one} of 8")
    for row, subnetwork in zip(label_figures.rows, record.subnetworks, strict=True):
        before, after = subnetwork.comparison.before.rows[0], subnetwork.comparison.after.rows[0]
        assert row[0] == before.name
        assert row[2] == f"{before.recall:.3f} → {after.recall:.3f}"
        assert row[3] == f"{before.specificity:.3f} → {after.specificity:.3f}"
    assert [row[0] for row in merged.rows] == list(NAMES)
    assert "bytes of .tflite" not in costs.columns
    for row, subnetwork in zip(costs.rows[1:], record.every, strict=True):
        assert row[1] == f"{subnetwork.comparison.costs.parameters:,}"
    assert costs.rows[0][:2] == ("my_net (parent)", "125")


def test_the_page_is_written_whole_and_names_stay_names(report, tmp_path):
    html = write(report, tmp_path).read_text(encoding="utf-8")
    assert "<b>" not in html and "&lt;b&gt;dog&lt;/b&gt;" in html
    assert html.count("data:image/png;base64,") == 11 and html.count("<table>") == 4
    assert html.count("<tr>") == sum(len(t.rows) + 1 for t in tables_of(report))


def test_exports_are_told_when_there_are_any(record):
    def exported(subnetwork, size, difference):
        costs = dataclasses.replace(subnetwork.comparison.costs, tflite_bytes=size)
        comparison = dataclasses.replace(subnetwork.comparison, costs=costs)
        return dataclasses.replace(subnetwork, comparison=comparison, tflite_difference=difference)

    each = tuple(exported(s, 1000 + i, i * 1e-7) for i, s in enumerate(record.subnetworks))
    report = surgery_report(dataclasses.replace(record, subnetworks=each))
    costs = tables_of(report)[-1]
    place = costs.columns.index("bytes of .tflite")
    assert [row[place] for row in costs.rows] == ["–", "1,000", "1,001", "1,002", "1,003", "–"]
    assert "4 .tflite files were run" in sentences(report)
    assert "3e-07 (fox_1)" in sentences(report)


def test_what_is_missing_is_left_out(record):
    alone = dataclasses.replace(record.subnetworks[0], proof=None)
    bare = SurgeryRecord(record.parent, record.activity, (alone,))
    report = surgery_report(bare)
    text = sentences(report)
    assert "1 smaller network was cut out, for cat." in text
    assert "merged" not in text and "overlap" not in text and "compute the same" not in text
    assert "No comparison with the masked parent was made for cat." in text
    with pytest.raises(SelectionError):
        surgery_report(SurgeryRecord(record.parent, record.activity, ()))


def test_labels_without_samples_and_layers_beyond_the_sixth_are_named(record):
    unseen = record.activity.samples.copy()
    unseen[2] = 0
    one = record.activity.layers["one"]
    zeroed = {
        f"layer {i}": LayerActivity(
            **{name: np.where(unseen[:, None] > 0, a, 0) for name, a in one.arrays().items()}
        )
        for i in range(8)
    }
    activity = dataclasses.replace(record.activity, samples=unseen, layers=zeroed)
    text = sentences(surgery_report(dataclasses.replace(record, activity=activity)))
    assert "No sample was seen of eel|x" in text and "2 more layers are not drawn" in text


# The sentences, one by one --------------------------------------------------------------------


def figures(name="cat", recall=0.9, specificity=0.9):
    balanced = (recall + specificity) / 2
    return LabelFigures(0, name, 10, recall, specificity, 0.5, balanced, 0.5)


def row(name, before, after):
    return name, figures(name, *before), figures(name, *after)


def test_the_label_that_suffers_most_is_the_one_that_loses_most():
    rows = [
        row("cat", (0.9, 0.9), (0.8, 0.8)),
        row("dog", (0.99, 0.99), (0.5, 0.9)),
        row("eel", (0.5, 0.5), (0.3, 0.6)),
    ]
    first, second = findings.losses(rows)
    assert first.startswith("Dog suffers most") and "from 0.990" in first and "to 0.700" in first
    assert "recall 0.500, specificity 0.900" in first
    assert second.startswith("Eel loses least")
    rows[2] = row("eel", (0.5, 0.5), (0.9, 0.9))
    assert findings.losses(rows)[1].startswith("Eel gains most")
    assert len(findings.losses(rows[:1])) == 1
    assert findings.losses(rows[:1])[0].startswith("Cat loses: balanced accuracy goes from 0.900")
    rows[2] = row("eel", (0.5, 0.5), (0.5, 0.5))
    assert findings.losses(rows)[1].startswith("Eel is as good as before")


def test_nothing_is_said_to_suffer_where_nothing_does():
    same = [row("cat", (0.9, 0.9), (0.9, 0.9)), row("3", (0.5, 0.5), (0.6, 0.6))]
    assert findings.losses(same) == ["No label loses balanced accuracy by the cut."]
    assert findings.losses([row("cat", (math.nan, 0.9), (0.9, 0.9))]) == []
    assert findings.yes_to_everything(same) == [] and findings.no_to_everything(same) == []


def test_high_recall_with_low_specificity_is_called_by_its_name():
    rows = [
        row("3", (0.9, 0.9), (1.0, 0.25)),
        row("8", (0.9, 0.9), (0.9, 0.4)),
        row("dog", (0.9, 0.9), (0.9, 0.9)),
    ]
    (said,) = findings.yes_to_everything(rows)
    assert said.startswith("For labels 3 and 8 recall is high")
    assert "Label 3 is the answer to 75.0% of the samples of other labels" in said
    (said,) = findings.yes_to_everything([rows[0], *[row("8", (1, 1), (1, 0.3))] * 2])
    assert said.startswith("For all 3 labels")


def test_missing_its_own_label_is_called_by_its_name():
    rows = [row("cat", (0.9, 0.9), (0.0, 1.0)), row("dog", (0.9, 0.9), (0.9, 0.9))]
    (said,) = findings.no_to_everything(rows)
    assert said.startswith("For cat specificity is high")
    assert "dog" not in said


def test_a_cut_that_is_not_exact_is_said_so():
    good, bad = Proof(0.0, 2e-7, 8), Proof(0.1, 0.03, 8)
    (said,) = findings.exactness(["3", "8"], [good, good])
    assert said.startswith("All 2 cut networks") and "2e-07" in said
    first, second, third = findings.exactness(["3", "8", "9"], [good, bad, None])
    assert first.startswith("1 of the 3 cut networks")
    assert second.startswith("Label 8 is NOT equal") and "0.03" in second
    assert third.endswith("for label 9.")
    double = Proof(3e-13, 1e-13, 8, 1e-9, dtype="float64", in_float32=8.1e-5)
    (said,) = findings.exactness(["3"], [double])
    assert "1e-13 of the output's scale in float64 (in float32, which rounds, 8.1e-05)" in said
    assert said.endswith("and up to 1e-09 is rounding.")
    (said,) = findings.exactness(["3"], [dataclasses.replace(double, relative=2e-6)])
    assert "NOT equal" in said and "more than the 1e-09 that rounding explains" in said
    noisy = Proof(8e-5, 8e-5, 8, 2e-4, rounding=1e-4)
    (said,) = findings.exactness(["3"], [noisy])
    assert "float32's rounding of weights and inputs alone moves these answers by 0.0001" in said
    assert "no difference at all" in findings.exactness(["3"], [Proof(0.0, 0.0, 8)])[0]


def compared(parameters, accuracy=0.5):
    side = Evaluation("n", "parent", (figures(),), ("a",), None, accuracy, 10, 0, False)
    return Comparison(side, side, side, Costs(100, 1, 400), Costs(parameters, 1, 4))


def test_sizes_and_merged_networks_are_told_from_their_costs():
    three = [compared(30), compared(10), compared(20)]
    (said,) = findings.sizes(["3", "dog", "eel"], three)
    assert "between 10.0% (dog) and 30.0% (label 3)" in said
    assert findings.sizes(["3"], three[:1]) == [
        "The cut network has 30.0% of the parent's parameters."
    ]
    said = findings.merged(compared(76, accuracy=0.25))
    assert "76.0%" in said[0] and "25.0% of 10 held-out samples" in said[0]
    assert said[1] == "In the merged network: no label loses balanced accuracy by the cut."


def test_sharing_names_the_closest_and_the_farthest():
    overlaps = np.array([[1, 0.5, 0.2], [0.5, 1, math.nan], [0.2, math.nan, 1]])
    (said,) = findings.sharing(["1", "cat", "dog"], overlaps)
    assert said.startswith("Label 1 and cat share most: 50%") and "dog share least: 20%" in said
    assert findings.sharing(["1"], np.ones((1, 1))) == []


def test_lists_are_cut_short():
    assert findings.listed(["a"]) == "a"
    assert findings.listed([str(i) for i in range(20)], most=2) == "0, 1 and 18 more"
