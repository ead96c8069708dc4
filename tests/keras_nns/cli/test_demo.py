"""The demo does the whole job, and what it writes says so again when it is read."""

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase

import keras
import numpy as np
import pytest

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
    ran = demo.run_demo(data, output=folder, epochs=5, zeta=0.3)
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
    for kind in ("plans/{}.json", "subnetworks/{}.keras", "tflite/{}.tflite"):
        assert {kind.format(name) for name in ("bar", "dot-s", "ring")} <= set(found)


def test_the_models_are_those_that_the_plans_describe(made, data):
    folder, _ = made
    parent = nns.load_model(folder / "parent.keras")
    activity = nns.Activity.load(folder / "activity.npz")
    splits = load_dataset(data)
    assert activity == nns.observe(
        parent, splits.x_train, splits.y_train, label_names=splits.label_names
    )
    plans = [nns.Plan.load(folder / "plans" / f"{n}.json") for n in ("bar", "dot-s", "ring")]
    assert plans == nns.select(activity, "each", score=nns.scores.contrast, keep=nns.above(0.3))
    merged = nns.Plan.load(folder / "merged.json")
    assert merged == nns.merge(plans)
    files = ["subnetworks/bar", "subnetworks/dot-s", "subnetworks/ring", "merged"]
    for name, plan in zip(files, [*plans, merged], strict=True):
        small = nns.load_model(folder / f"{name}.keras")
        assert nns.lineage(small).plan == plan
        np.testing.assert_allclose(
            small(splits.x_test, training=False),
            nns.mask(parent, plan)(splits.x_test, training=False),
            rtol=0,
            atol=1e-5,
        )


def test_the_files_answer_as_the_models(made, data):
    folder, _ = made
    x = load_dataset(data).x_test
    for flat, model in {
        "parent.tflite": "parent.keras",
        "merged.tflite": "merged.keras",
        "tflite/ring.tflite": "subnetworks/ring.keras",
    }.items():
        verified = tflite_export.verify(folder / flat, nns.load_model(folder / model), x)
        assert verified.relative < 1e-5
        assert tflite_export.read_metadata(folder / flat).labels == LABELS


def test_the_results_are_the_figures_of_the_files(made, results, data):
    folder, _ = made
    splits = load_dataset(data)
    parent = nns.load_model(folder / "parent.keras")
    assert [network["name"] for network in results["networks"]] == [*LABELS, "merged"]
    for network, file in zip(results["networks"], ("bar", "dot-s", "ring", None), strict=True):
        model = "merged.keras" if file is None else f"subnetworks/{file}.keras"
        flat = "merged.tflite" if file is None else f"tflite/{file}.tflite"
        size = (folder / flat).stat().st_size
        expected = nns.compare(
            parent,
            nns.load_model(folder / model),
            splits.x_test,
            splits.y_test,
            label_names=splits.label_names,
            parent_tflite_bytes=(folder / "parent.tflite").stat().st_size,
            tflite_bytes=size,
            confidence=0.95,
        )
        assert network["comparison"] == json.loads(json.dumps(expected.to_json()))
        assert network["tflite"]["bytes"] == size
        assert network["tflite"]["difference"] < 1e-5
        assert network["proof"]["exact"] and network["proof"]["samples"] == 100
    assert results["settings"]["zeta"] == 0.3


def test_the_parent_has_learned_and_the_page_tells(made, results):
    folder, ran = made
    before = results["networks"][0]["comparison"]["parent"]
    assert before["accuracy"] > 0.9 and before["samples"] == 30
    page = (folder / "report.md").read_text()
    assert "120 samples to train and observe on, 30 held out" in page
    assert "5 epochs of Adam" in page
    assert "All 4 cut networks compute what the parent computes" in page
    assert len(ran.operation.to_table().rows) == 5


def test_the_same_seed_gives_the_same_figures(made, data, tmp_path, capsys):
    line = ["demo", "--dataset", str(data), "--epochs", "5", "--zeta", "0.3"]
    assert main([*line, "--output", str(tmp_path / "again")]) == 0
    said = capsys.readouterr()
    first, again = (
        (folder / "results.json").read_text() for folder in (made[0], tmp_path / "again")
    )
    assert first == again
    assert said.err == ""
    assert "ring" in said.out and "specificity" in said.out and "exact" in said.out
    assert "again/report.html" in said.out
    for row in made[1].operation.to_table().rows:
        assert any(all(cell in text for cell in row) for text in said.out.splitlines())


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

    monkeypatch.setattr(demo, "write", fail)
    monkeypatch.setattr(demo, "operate", lambda *_, **__: None)
    monkeypatch.setattr(demo, "_save", fail)
    status = main(["demo", "--dataset", str(data), "--epochs", "1", "-o", str(tmp_path / "out")])
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


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_users_own_model(suffix, data, tmp_path):
    layers = keras.layers
    model = own_model(
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(5, activation="tanh", name="dense"),
    )
    model.save(tmp_path / f"mine{suffix}")
    ran = demo.run_demo(data, model=tmp_path / f"mine{suffix}", output=tmp_path / "out")
    parent = nns.load_model(tmp_path / "out" / "parent.keras")
    for kept, own in zip(parent.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, own)
    assert set(ran.operation.record.activity.layers) == {"conv", "dense"}
    assert "The model came from a file" in (tmp_path / "out" / "report.md").read_text()


def test_a_model_that_cannot_be_cut_says_why(data, tmp_path, capsys):
    layers = keras.layers
    own_model(layers.Flatten()).save(tmp_path / "flat.keras")
    inputs = keras.Input((6, 6, 1))
    dense = layers.Dense(4, name="dense")(layers.Flatten()(inputs))
    ordered = keras.ops.sort(dense, axis=-1)
    answer = layers.Dense(3, activation="softmax")(ordered)
    keras.Model(inputs, answer).save(tmp_path / "sorted.keras")
    for name, why in (("flat", "hidden"), ("sorted", "dense")):
        line = ["demo", "--dataset", str(data), "--model", str(tmp_path / f"{name}.keras")]
        assert main([*line, "--output", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and why in said
    assert sorted(paths(tmp_path)) == ["flat.keras", "sorted.keras"]


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
        timeout=300,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    after = os.times()
    # Processor time: other work on the machine is not what is measured.
    assert after.children_user + after.children_system - sum(before[2:4]) < 120
    assert "All 11 cut networks compute what the parent computes" in ran.stdout
    results = json.loads((tmp_path / "nns_demo" / "results.json").read_text())
    assert len(results["networks"]) == 11
    assert results["networks"][0]["comparison"]["parent"]["accuracy"] > 0.9
