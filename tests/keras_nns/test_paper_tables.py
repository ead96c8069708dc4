"""The paper's tables: every cell equal to what plain numpy loops say, and pages from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns import paper, paper_tables
from keras_nns.errors import FileError, ModelError, ProofError
from keras_nns.paper_tables import ZETAS, stepwise, study, units_of
from keras_nns.reproduction import check_cuts, reproduce

# Recomputed from the paper's weights and rows by its rule: kept parameters, recall %,
# specificity %, for ζ 0.4 and then 0.5.
TABLE_5 = {
    "0": ("6,272", 100.0, 12.0, "3,136", 100.0, 26.1),
    "1": ("5,488", 88.5, 61.1, "3,920", 99.0, 36.9),
    "2": ("9,408", 91.9, 66.6, "6,272", 94.4, 59.5),
    "3": ("9,408", 96.7, 75.4, "8,624", 100.0, 54.9),
    "4": ("3,136", 0.0, 100.0, "1,568", 0.0, 100.0),
    "5": ("10,976", 55.1, 94.1, "9,408", 88.8, 61.7),
    "6": ("7,056", 93.8, 62.0, "5,488", 85.6, 81.2),
    "7": ("2,352", 56.2, 70.5, "1,568", 77.1, 47.7),
    "8": ("8,624", 77.4, 81.6, "4,704", 77.4, 70.0),
    "9": ("2,352", 100.0, 3.7, "2,352", 100.0, 3.7),
}
BASE = ("94.4", "92.7", "79.8", "88.9", "78.4", "71.9", "87.6", "87.6", "73.1", "79.4")
MERGED = {0.4: (22, 0.692), 0.5: (20, 0.686)}


class ByHand:
    """The paper's method in plain numpy, zeros and all, sharing no code with the package."""

    def __init__(self, weights: dict[str, list], x: np.ndarray, y: np.ndarray) -> None:
        self.w1, self.b1, self.w2, self.b2 = (
            np.array(weights[k]) for k in ("w1", "b1", "w2", "b2")
        )
        self.x, self.y = x.astype(np.float64), y
        hidden = np.maximum(self.w1 @ self.x.T + self.b1, 0)
        self.mean = np.array([hidden[:, y == label].mean(axis=1) for label in range(10)])

    def kept(self, label: int, zeta: float) -> set[int]:
        mean = self.mean[label]
        return {unit for unit in range(len(mean)) if mean[unit] >= zeta * mean.max()}

    def called(self, units: set[int]) -> np.ndarray:
        zeroed = np.zeros_like(self.w1)
        for unit in units:
            zeroed[unit] = self.w1[unit]
        hidden = np.maximum(zeroed @ self.x.T + self.b1, 0)
        return (self.w2 @ hidden + self.b2).argmax(axis=0)


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "nns_paper"


@pytest.fixture(scope="module")
def by_hand(folder):
    rows = np.loadtxt(folder / "train_first1000.csv", delimiter=",", skiprows=1)
    weights = json.loads((folder / "simpleMLPWghts.json").read_text())
    return ByHand(weights, rows[:, 1:] / 255, rows[:, 0].astype(int))


@pytest.fixture(scope="module")
def done(folder):
    return study(paper.read_subject(folder))


@pytest.fixture(scope="module")
def digits():
    return study(paper.train_subject("digits"))


# The paper's own files ----------------------------------------------------------------------------


def test_table_1(done):
    table = paper_tables.table_1(done)
    assert tuple(row[2] for row in table.rows) == BASE
    assert "0.835" in table.caption


@pytest.mark.parametrize(("zeta", "columns"), [(0.4, slice(0, 3)), (0.5, slice(3, 6))])
def test_every_cell_of_table_5(done, zeta, columns):
    table = paper_tables.table_5(done, zeta)
    found = {row[0]: (row[2], float(row[3]), float(row[4])) for row in table.rows}
    assert found == {label: cells[columns] for label, cells in TABLE_5.items()}


@pytest.mark.parametrize("zeta", ZETAS)
def test_every_cell_of_table_4(done, by_hand, zeta):
    units: set[int] = set()
    expected = []
    for label in range(10):
        units |= by_hand.kept(label, zeta)
        called, y = by_hand.called(units), by_hand.y
        recall = (called[y == label] == label).mean()
        so_far = (called == y)[y <= label].mean()
        cells = (recall, so_far, (called == y).mean())
        expected.append(
            (str(label), BASE[label], str(len(units)), *[f"{100 * c:.1f}" for c in cells])
        )
    assert list(paper_tables.table_4(done, zeta).rows) == expected
    count, accuracy = MERGED[zeta]
    assert expected[-1][2] == str(count)
    assert math.isclose(float(expected[-1][5]) / 100, accuracy)


@pytest.mark.parametrize("zeta", ZETAS)
def test_the_order_of_labels_changes_the_way_and_not_the_end(done, by_hand, zeta):
    order = [9, 4, 1, 0, 7, 3, 8, 2, 6, 5]
    units: set[int] = set()
    for step, label in zip(stepwise(done, order, zeta), order, strict=True):
        units |= by_hand.kept(label, zeta)
        called = by_hand.called(units)
        assert (step.label, step.units) == (label, len(units))
        assert math.isclose(step.recall, (called[by_hand.y == label] == label).mean())
        assert math.isclose(step.accuracy, (called == by_hand.y).mean())
    assert (step.units, round(step.accuracy, 3)) == MERGED[zeta]


def test_every_zeta(done, by_hand):
    result = paper_tables.sweep(done, 6)
    assert result.units[0] == len(set().union(*(by_hand.kept(label, 0.0) for label in range(10))))
    assert (np.diff(result.units) <= 0).all()
    for i, zeta in enumerate(result.zetas):
        kept = [by_hand.kept(label, zeta) for label in range(10)]
        called = by_hand.called(set().union(*kept))
        assert math.isclose(result.merged[i], (called == by_hand.y).mean())
        own = by_hand.called(kept[3])
        assert math.isclose(result.recall[i, 3], (own[by_hand.y == 3] == 3).mean())
        assert math.isclose(result.specificity[i, 3], (own[by_hand.y != 3] != 3).mean())


def test_units_added_one_by_one(done, by_hand):
    loudest = np.argsort(-by_hand.mean[9])
    for count, worth in list(enumerate(paper_tables.growth(done, 9), 1))[::9]:
        called = by_hand.called(set(loudest[:count].tolist()))
        assert worth.units == count
        assert math.isclose(worth.recall[9], (called[by_hand.y == 9] == 9).mean())


def test_cut_networks_answer_what_zeros_answer(done, by_hand):
    assert check_cuts(done) >= 20
    for plan in done.plans[0.4]:
        np.testing.assert_array_equal(
            done.judge.answers(units_of(plan)), by_hand.called(set(units_of(plan)))
        )


def test_sizes_of_the_paper_are_reached(done, tmp_path):
    """The merged network in at most 1/7 of the paper's 684 KB, ten labels below its JSON."""
    table = paper_tables.sizes_table(done, tmp_path)
    sizes = {row[0]: [int(cell.replace(",", "")) for cell in row[1:]] for row in table.rows}
    _, line, exact, _, byte = sizes["merged, ζ 0.4"]
    assert 7 * exact <= 684_000
    assert byte <= 30_000
    assert sizes["10 labels, ζ 0.4"][2] < line
    merged = nns.Bundle.open(tmp_path / "merged_0.4_exact.safetensors")
    kernel = done.subject.model.get_layer(paper.HIDDEN).kernel.numpy()
    units = list(units_of(nns.merge(done.plans[0.4])))
    np.testing.assert_array_equal(merged.weights("merged")["hidden/kernel"], kernel[:, units])


def test_the_papers_json_there_and_back(folder, tmp_path):
    network = paper.read_network(folder / paper.WEIGHTS_FILE)
    content = json.loads((folder / paper.WEIGHTS_FILE).read_text())
    np.testing.assert_array_equal(
        network.get_layer(paper.HIDDEN).kernel.numpy().T, np.array(content["w1"], np.float32)
    )
    paper.write_network(network, tmp_path / "again.json")
    again = paper.read_network(tmp_path / "again.json")
    for old, new in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_from_the_papers_files_to_a_page(folder, tmp_path):
    found = reproduce(folder, output=tmp_path / "paper")
    page = (tmp_path / "paper" / "report.md").read_text()
    for table in found.tables.values():
        assert table.to_markdown() in page
    assert "as in the paper" in page


# Without the paper's files ------------------------------------------------------------------------


def test_a_network_trained_the_papers_way(digits):
    model = digits.subject.model
    assert [layer.units for layer in model.layers] == [100, 10]
    assert digits.judge.worth().accuracy > 0.85
    assert len(digits.subject.x) + len(digits.subject.x_test) == 1797
    assert check_cuts(digits) >= 20


def test_the_six_steps_are_the_library(digits):
    subject = digits.subject
    for label in subject.labels:
        shots = paper.snapshot(subject.model, subject.x[subject.y == label])
        np.testing.assert_allclose(
            digits.activity.mean(paper.HIDDEN)[label], shots.mean(axis=0, dtype=float), atol=1e-5
        )
    assert paper.choose(digits.activity, 0.4) == nns.select(digits.activity, "each")
    steps = paper.integrate(digits.plans[0.4])
    assert steps[-1] == nns.merge(digits.plans[0.4])
    assert [len(step.labels) for step in steps] == list(range(1, 11))


def test_rivals_have_as_many_units(digits):
    plans = digits.plans[0.5]
    for label, (plan, rival) in enumerate(
        zip(plans, paper_tables.rivals(digits, plans), strict=True)
    ):
        assert len(units_of(rival)) == len(units_of(plan))
        assert rival.labels == (label,)


def test_a_cut_that_answers_otherwise_is_not_printed(digits, monkeypatch):
    monkeypatch.setattr(digits.judge, "_bias", digits.judge._bias + np.arange(10) * 0.5)
    with pytest.raises(ProofError, match="otherwise than its parent"):
        check_cuts(digits)


@pytest.mark.slow
def test_pages_are_whole_and_written_once(tmp_path):
    output = tmp_path / "page"
    found = reproduce(output=output)
    page = (output / "report.md").read_text()
    for name, table in found.tables.items():
        assert table.to_markdown() in page, name
    pictures = sorted((output / "figures").glob("*.png"))
    assert len(pictures) == page.count("](figures/") == 9
    assert all(path.stat().st_size < 250_000 for path in pictures)
    with pytest.raises(FileError, match="already exists"):
        reproduce(output=output)


def test_files_that_are_no_network_are_refused(tmp_path):
    path = tmp_path / "weights.json"
    with pytest.raises(FileError, match="No such file"):
        paper.read_network(path)
    good = {
        "w1": np.ones((3, 2)),
        "b1": np.ones((3, 1)),
        "w2": np.ones((2, 3)),
        "b2": np.ones((2, 1)),
    }
    for wrong, words in (
        ({"w1": np.ones(3)}, "Expected the paper's JSON"),
        ({"w2": np.ones((2, 4))}, "do not fit together"),
        ({"b1": np.ones(2)}, "do not fit together"),
    ):
        content = {name: value.tolist() for name, value in {**good, **wrong}.items()}
        path.write_text(json.dumps(content))
        with pytest.raises(FileError, match=rf"weights\.json.*{words}"):
            paper.read_network(path)
    path.write_text("[]")
    with pytest.raises(FileError, match="Expected the paper's JSON"):
        paper.read_network(path)
    path.write_text("{")
    with pytest.raises(FileError, match="not JSON"):
        paper.read_network(path)


def test_rows_that_are_none_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    for text in ("label,pixel0\n", "label,pixel0\n1,x\n", "label,pixel0\n1,256\n", "label\n3\n"):
        path.write_text(text)
        with pytest.raises(FileError, match=r"rows\.csv.*Expected rows"):
            paper.read_rows(path)


def test_weights_and_rows_must_fit(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    paper.write_network(model, tmp_path / paper.WEIGHTS_FILE)
    Path(tmp_path, paper.ROWS_FILE).write_text("label,a,b\n1,0,255\n0,3,4\n")
    with pytest.raises(FileError, match="has 2 pixels and labels up to 1"):
        paper.read_subject(tmp_path)


def test_samples_of_several_labels_are_refused(tmp_path):
    x, y = np.zeros((20, 4), np.float32), np.tile([[1, 1, 0], [0, 1, 1]], (10, 1)).astype(bool)
    np.savez(tmp_path / "several.npz", x=x, y=y)
    with pytest.raises(ModelError, match="one label for each sample"):
        paper.train_subject(tmp_path / "several.npz")
