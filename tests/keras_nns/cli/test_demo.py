"""The demo does the whole job, and what it writes says so again when it is read."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from sklearn.metrics import roc_auc_score

import keras_nns as nns
import tflite_export
from keras_nns import demo
from keras_nns.cli import main
from keras_nns.data.named import load_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
LABELS = ("bar", "dot/s", "ring")


def paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three kinds of small images, with noise."""
    random = np.random.default_rng(0)
    shapes = np.zeros((3, 6, 6))
    shapes[0, :, 2:4] = 1
    shapes[1, ::3, ::3] = 1
    shapes[2, 1:5, 1:5] = 1
    shapes[2, 2:4, 2:4] = 0
    y = np.arange(150) % 3
    x = np.clip(shapes[y] * 200 + random.normal(size=(150, 6, 6)) * 40, 0, 255)
    path = tmp_path_factory.mktemp("data") / "shapes.npz"
    np.savez(path, x=x.astype("uint8"), y=np.array(LABELS)[y])
    return path


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """The folder of one run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    ran = demo.run_demo(data, output=folder, epochs=5, zeta=0.3, verbose=False)
    return folder, ran


@pytest.fixture(scope="module")
def results(made):
    return json.loads((made[0] / "results.json").read_text())


def test_the_folder_holds_everything_and_nothing_else(made):
    folder, _ = made
    found = paths(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    for pattern in demo.MADE:
        assert any(fnmatchcase(name, pattern) for name in found), pattern
    assert all(any(fnmatchcase(name, pattern) for pattern in demo.MADE) for name in found)
    kinds = ("plans/{}.json", "subnetworks/{}.keras", "tflite/{}.tflite", "tflite/{}_int8.tflite")
    for kind in (*kinds, "paper/{}.tflite"):
        assert {kind.format(name) for name in ("bar", "dot-s", "ring")} <= set(found)


def test_the_models_are_those_that_the_plans_describe(made, data):
    folder, ran = made
    parent = nns.load_model(folder / "parent.keras")
    activity = nns.Activity.load(folder / "activity.npz")
    splits = load_dataset(data)
    assert activity == nns.observe(
        parent, splits.x_train, splits.y_train, label_names=splits.label_names
    )
    papers = nns.select(activity, "each", score="mean_activation", keep=nns.above(0.3))
    assert [one.plan for one in ran.contest.of("paper").values()] == papers
    sizes = {
        way: [one.model.count_params() for one in ran.contest.of(way).values()]
        for way in ("paper", "same", "tenth", "merged")
    }
    for paper, same, tenth in zip(sizes["paper"], sizes["same"], sizes["tenth"], strict=True):
        # Sizes are reckoned with the head that ours get, not with the parent's.
        assert tenth < same <= paper < 1.2 * same
    assert 0.3 < sizes["merged"][0] / parent.count_params() <= 0.5
    for name, label in zip(("bar", "dot-s", "ring"), LABELS, strict=True):
        small = nns.load_model(folder / "subnetworks" / f"{name}.keras")
        record = nns.lineage(small)
        assert record.plan == nns.Plan.load(folder / "plans" / f"{name}.json")
        assert record.head == "binary" and record.label_names == (label,)
    merged = nns.load_model(folder / "merged.keras")
    assert nns.lineage(merged).plan == nns.Plan.load(folder / "merged.json")


def test_the_files_answer_as_the_models(made, data):
    folder, _ = made
    x = load_dataset(data).x_test
    for flat, model in (
        ("parent.tflite", "parent.keras"),
        ("merged.tflite", "merged.keras"),
        ("tflite/ring.tflite", "subnetworks/ring.keras"),
    ):
        verified = tflite_export.verify(folder / flat, nns.load_model(folder / model), x)
        assert verified.relative < 1e-4
    assert tflite_export.read_metadata(folder / "merged.tflite").labels == LABELS
    for name in ("tflite/ring_int8.tflite", "merged_int8.tflite"):
        assert tflite_export.read_metadata(folder / name).quantize == "int8"


def answers(path, x):
    """What a file answers, in LiteRT by hand."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for sample in x:
        scale, zero = taken["quantization"]
        stored = np.clip(np.rint(sample / scale) + zero, -128, 127) if scale else sample
        interpreter.set_tensor(taken["index"], stored[None].astype(taken["dtype"]))
        interpreter.invoke()
        row = interpreter.get_tensor(given["index"])[0].astype("float64")
        scale, zero = given["quantization"]
        rows.append((row - zero) * scale if scale else row)
    return np.array(rows)


def test_the_figures_are_those_of_the_files(made, results, data):
    folder, ran = made
    splits = load_dataset(data)
    x, y = splits.x_test, splits.y_test
    for label, name in enumerate(("bar", "dot-s", "ring")):
        own = y == label
        for way, path, variant in (
            ("paper", "paper/{}.tflite", "float32"),
            ("tenth", "tflite/{}.tflite", "float32"),
            ("tenth", "tflite/{}_int8.tflite", "int8"),
        ):
            said = answers(folder / path.format(name), x)
            yes = said.argmax(axis=1) == label if said.shape[1] > 1 else said[:, 0] >= 0.5
            by_hand = (yes[own].mean() + (~yes[~own]).mean()) / 2
            one = ran.contest.of(way)[LABELS[label]]
            assert np.isclose(one.balanced(variant), by_hand)
            score = said[:, label] if said.shape[1] > 1 else said[:, 0]
            assert np.isclose(one.auc(variant), roc_auc_score(own, score))
    for path, variant in (("merged.tflite", "float32"), ("merged_int8.tflite", "int8")):
        right = (answers(folder / path, x).argmax(axis=1) == y).mean()
        (merged,) = ran.contest.of("merged").values()
        assert np.isclose(merged.comparisons[variant].after.accuracy, right)
    assert [network["name"] for network in results["networks"]] == [*LABELS, "merged"]
    for network in results["networks"]:
        assert network["proof"]["exact"] and network["proof"]["samples"] == 100
    sized = {
        (one["label"], one["way"]): one["bytes"] for one in results["side_by_side"]["networks"]
    }
    for name, label in zip(("bar", "dot-s", "ring"), LABELS, strict=True):
        for path, way, variant in (
            (f"paper/{name}.tflite", "paper", "float32"),
            (f"tflite/{name}_int8.tflite", "tenth", "int8"),
        ):
            assert sized[label, way][variant] == (folder / path).stat().st_size
    assert results["settings"]["zeta"] == 0.3


def test_the_parent_has_learned_and_the_page_tells(made, results):
    folder, ran = made
    before = results["networks"][0]["comparison"]["parent"]
    assert before["accuracy"] > 0.9 and before["samples"] == 30
    page = (folder / "report.md").read_text()
    assert "120 samples to train and observe on, 30 held out" in page
    assert "5 epochs of Adam" in page
    assert "All 4 cut networks compute what the parent computes" in page
    assert "what is judged is the repaired network" in page
    assert len(ran.contest.to_table().rows) == 3
    assert "mean balanced accuracy" in ran.contest.headline
    assert "not repaired, deciding for the largest answer" in ran.contest.fairness
    assert ran.contest.fairness in str(ran.contest) and ran.contest.fairness in page


def test_the_same_seed_gives_the_same_figures(made, data, tmp_path, capsys, monkeypatch):
    # The page has the same figures, and takes long to draw.
    monkeypatch.setattr(demo, "publish", lambda *_: SimpleNamespace(still=""))
    line = ["demo", "--dataset", str(data), "--epochs", "5", "--zeta", "0.3", "-q"]
    assert main([*line, "--output", str(tmp_path / "again")]) == 0
    said = capsys.readouterr()
    first, again = (
        (folder / "results.json").read_text() for folder in (made[0], tmp_path / "again")
    )
    assert first == again
    assert (said.out, said.err) == ("", "")


@pytest.fixture
def untouched(monkeypatch):
    """Fail when the demo begins to work."""

    def work(*_, **__):
        pytest.fail("worked before it looked")

    monkeypatch.setattr(demo, "load_dataset", work)


def test_an_existing_folder_is_refused_before_any_work(made, untouched, capsys):
    folder, _ = made
    before = paths(folder)
    assert main(["demo", "--output", str(folder)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert paths(folder) == before


def test_a_folder_of_the_users_is_not_overwritten(untouched, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert main(["demo", "--output", str(tmp_path), "--overwrite"]) == 1
    assert "thesis.tex" in capsys.readouterr().err
    assert paths(tmp_path) == ["thesis.tex"]


def test_an_unwritable_folder_is_refused_before_any_work(untouched, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file" / "out")]) == 1
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--zeta", "1.5"], ["--epochs", "0"]], ids=" ".join)
def test_settings_without_sense_are_refused_before_any_work(option, untouched, tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "out"), *option]) == 1
    assert "Received" in capsys.readouterr().err
    assert paths(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_stopped_at_the_end_leaves_nothing(error, data, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    for name in ("contest", "judge", "operation_of"):
        monkeypatch.setattr(demo, name, lambda *_, **__: SimpleNamespace(notes=()))
    monkeypatch.setattr(demo, "_save", fail)
    line = ["demo", "--dataset", str(data), "--epochs", "1", "-q"]
    status = main([*line, "-o", str(tmp_path / "out")])
    assert status == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert capsys.readouterr().err in ("interrupted\n", "error: No space left on device\n")
    assert list(tmp_path.iterdir()) == []


def own_model(*hidden):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6, 6, 1)), *hidden, layers.Dense(3, activation="softmax", name="answer")],
        name="mine",
    )


@pytest.fixture
def numbered(data, tmp_path):
    """The same images with numbers for labels: a model that was not trained tells no order."""
    with np.load(data) as held:
        names = sorted(set(held["y"].tolist()))
        y = np.array([names.index(name) for name in held["y"]])
        np.savez(tmp_path / "numbered.npz", x=held["x"], y=y)
    return tmp_path / "numbered.npz"


@pytest.fixture
def mine():
    return own_model(
        keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, activation="tanh", name="dense"),
    )


def same_weights(one, other):
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_users_own_model(mine, numbered, tmp_path):
    mine.save(tmp_path / "mine.keras")
    ran = demo.run_demo(numbered, model=tmp_path / "mine.keras", output=tmp_path / "out")
    same_weights(nns.load_model(tmp_path / "out" / "parent.keras"), mine)
    assert set(ran.operation.record.activity.layers) == {"conv", "dense"}
    assert "The model came from a file" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_users_own_model_of_the_older_format(mine, numbered, tmp_path, monkeypatch):
    """Up to where the other format's run no longer knows which it was."""
    reached = []

    def contest(parent, plans, *_, **__):
        reached.append(parent)
        assert set(plans[0].kept) == {"conv", "dense"}
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "contest", contest)
    mine.save(tmp_path / "mine.h5")
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(numbered, model=tmp_path / "mine.h5", output=tmp_path / "out")
    same_weights(reached[0], mine)


def test_a_model_that_cannot_be_cut_says_why(numbered, tmp_path, capsys):
    layers = keras.layers
    own_model(layers.Flatten()).save(tmp_path / "flat.keras")
    inputs = keras.Input((6, 6, 1))
    dense = layers.Dense(4, name="dense")(layers.Flatten()(inputs))
    ordered = keras.ops.sort(dense, axis=-1)
    answer = layers.Dense(3, activation="softmax", name="dense_answer")(ordered)
    keras.Model(inputs, answer).save(tmp_path / "sorted.keras")
    for name, why in (("flat", "hidden"), ("sorted", "dense")):
        line = ["demo", "--dataset", str(numbered), "--model", str(tmp_path / f"{name}.keras")]
        assert main([*line, "--output", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        (error,) = (text for text in said.splitlines() if text.startswith("error"))
        assert why in error
    assert sorted(paths(tmp_path)) == ["flat.keras", "numbered.npz", "sorted.keras"]


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ((8, 8, 1), ["Flatten", "Dense", "Dense", "Dense"]),
        ((5,), ["Normalization", "Dense", "Dense", "Dense"]),
        ((28, 28, 1), [*["Conv2D", "MaxPooling2D"] * 2, "Flatten", "Dense", "Dense"]),
        (
            (64, 48, 3),
            [*["Conv2D", "MaxPooling2D"] * 2, "GlobalAveragePooling2D", "Dense", "Dense"],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("several", [False, True])
def test_the_network_fits_the_data_and_can_be_cut(shape, kinds, several):
    random = np.random.default_rng(0)
    x = random.normal(size=(12, *shape)).astype("float32")
    y = random.random((12, 4)) < 0.5 if several else np.arange(12) % 4
    data = demo.Splits("some", x, y, x, y, tuple("abcd"))
    model = demo.small_network(data, name="some")
    assert [type(layer).__name__ for layer in model.layers] == kinds
    outputs = np.asarray(model(x))
    assert outputs.shape == (12, 4)
    assert np.allclose(outputs.sum(axis=1), 1) != several
    plan = nns.select(nns.observe(model, x, y), 1, keep=nns.fraction(0.5))
    assert nns.prove(model, plan, samples=x).exact


def test_the_newcomers_first_command(tmp_path):
    """The main job, as it is typed: silent but for its result, and within two minutes."""
    before = os.times()
    ran = subprocess.run(
        [sys.executable, "-m", "keras_nns", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert ran.returncode == 0
    # Nothing but how far it is.
    assert all(re.match(r"\d+%, ", line) for line in ran.stderr.splitlines())
    after = os.times()
    # Processor time: other work on the machine is not what is measured.
    assert after.children_user + after.children_system - sum(before[2:4]) < 120
    assert "the paper's have 0.5" in ran.stdout and "report.html" in ran.stdout
    results = json.loads((tmp_path / "nns_demo" / "results.json").read_text())
    assert len(results["networks"]) == 11
    assert results["networks"][0]["comparison"]["parent"]["accuracy"] > 0.9
