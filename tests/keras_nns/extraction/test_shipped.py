"""Networks extracted as the file that ships: its bytes, its figures, and what is wrong with it."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from clouds import LABELS, clouds, trained
from keras import layers as L
from PIL import Image

import keras_nns as nns
import tflite_export
from keras_nns.cli import main
from keras_nns.observation.holdout import Division
from tflite_export import converter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
X, Y = clouds()


@pytest.fixture(scope="module")
def model():
    return trained(X, Y)


@pytest.fixture(scope="module")
def small(model):
    return nns.extract(model, (X, Y), labels=[1, 3], budget="9kB", quantize="int8")


def held_out(model, x, y):
    """The samples that nothing but the figures looks at."""
    division = Division(x, y, model=model, held_out=0.2, seed=0, batch_size=256, label_names=None)
    batches = list(division.held_out())
    return np.concatenate([b.inputs for b in batches]), np.concatenate([b.labels for b in batches])


def answers(flat, x):
    """What a file answers, in LiteRT by hand."""
    interpreter = Interpreter(model_content=flat)
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


def balanced(right, said, asked=(0, 1)):
    """Mean of recall and specificity over the answers that labels have."""
    each = [((said[right == a] == a).mean() + (said[right != a] != a).mean()) / 2 for a in asked]
    return np.mean(each)


# What it costs and is worth ---------------------------------------------------------------------


def test_the_budget_counts_the_very_bytes_that_ship(small):
    assert small.cost == len(small.flat) <= 9000
    assert small.cost > 0.95 * 9000
    assert small.comparison.costs.tflite_bytes == small.cost
    metadata = tflite_export.read_metadata(small.flat)
    assert metadata.quantize == "int8"
    assert metadata.outputs[0].labels == ("1", "3", "other")
    assert "keras_nns.json" in metadata.files
    assert "bytes of .tflite (int8)" in small.summary
    assert small.to_json()["quantize"] == "int8"


def test_the_figures_are_those_of_the_file(model, small):
    x, y = held_out(model, X, Y)
    right = np.where(y == 1, 0, np.where(y == 3, 1, 2))
    of_file, of_network = answers(small.flat, x), np.asarray(small.model(x))
    assert np.isclose(small.comparison.after.worth, balanced(right, of_file.argmax(axis=1)))
    assert np.isclose(small.in_keras.after.worth, balanced(right, of_network.argmax(axis=1)))
    truth = np.eye(3)[right]
    for comparison, said in ((small.comparison, of_file), (small.in_keras, of_network)):
        assert np.isclose(comparison.after.brier, ((said - truth) ** 2).sum(axis=1).mean())
    assert small.comparison.after.brier != small.in_keras.after.brier
    assert "(int8 file)" in str(small)
    assert small.comparison.after.model.endswith("(int8 file)")
    assert small.shipped.verification.variant == "int8"


def test_sizes_that_litert_does_not_load_are_passed_over(model, small, monkeypatch):
    ended = []

    def ended_by(flat):
        # As if the kernels took no file within a tenth of what was found.
        if abs(len(flat) - len(small.flat)) < 0.1 * len(small.flat):
            ended.append(len(flat))
            return "SIGABRT"
        return None

    monkeypatch.setattr(converter, "ended_by", ended_by)
    with pytest.warns(UserWarning, match=r"A size was passed over.*SIGABRT"):
        other = nns.extract(model, (X, Y), labels=[1, 3], budget="9kB", quantize="int8")
    assert ended
    assert len(other.flat) <= 0.9 * len(small.flat)


def test_the_smallest_network_need_not_be_one_that_litert_loads(model, small, monkeypatch):
    # It only says how small a budget may be.
    monkeypatch.setattr(
        converter, "ended_by", lambda flat: "SIGABRT" if len(flat) < 0.7 * len(small.flat) else None
    )
    found = nns.extract(model, (X, Y), labels=[1, 3], budget="9kB", quantize="int8")
    assert found.flat == small.flat
    with pytest.raises(nns.errors.SelectionError, match="nearest possible"):
        nns.extract(model, (X, Y), labels=[1, 3], budget="1kB", quantize="int8")


def test_the_suffix_says_what_is_saved(small, tmp_path):
    assert small.save(tmp_path / "pets.tflite").read_bytes() == small.flat
    kept = nns.load_model(small.save(tmp_path / "pets.keras"))
    assert nns.lineage(kept).plan == small.plan
    for path in ("pets.tflite", "pets.keras"):
        with pytest.raises((nns.errors.FileError, tflite_export.ExportFileError), match="exists"):
            small.save(tmp_path / path)
        small.save(tmp_path / path, overwrite=True)
    with pytest.raises(nns.errors.FileError, match=r"\.keras or \.tflite"):
        small.save(tmp_path / "pets.h5")


def test_without_a_variant_keras_is_judged_and_a_float32_file_ships(model, tmp_path):
    found = nns.extract(model, (X, Y), labels=3, budget="parameters=500")
    assert found.in_keras is found.comparison
    assert found.exports == 0
    assert found.save(tmp_path / "three.tflite").read_bytes() == found.flat
    assert tflite_export.read_metadata(found.flat).quantize == "float32"
    exact = np.asarray(found.model(X[:20]))
    np.testing.assert_allclose(answers(found.flat, X[:20]), exact, atol=1e-5)


def test_a_drop_is_that_of_the_file(model):
    found = nns.extract(model, (X, Y), labels=3, budget="drop=0.02", quantize="int8", repair=False)
    assert found.cost == found.comparison.drop <= 0.02
    assert found.comparison.costs.tflite_bytes == len(found.flat)


def test_a_file_that_does_not_answer_as_its_network_does_not_ship(tmp_path):
    # One input a thousand times as wide as the rest: int8 has a step of 30 for all of them.
    wide = X.copy()
    wide[:, 0] = np.random.default_rng(3).normal(0, 1, len(X))
    model = trained(wide, Y)
    kernel, *rest = model.get_layer("one").get_weights()
    kernel[0] /= 4000
    model.get_layer("one").set_weights([kernel, *rest])
    wide[:, 0] *= 4000
    asked = {"labels": [1, 3], "budget": "9kB", "quantize": "int8"}
    with pytest.warns(UserWarning, match="cannot ship, though the network itself can"):
        found = nns.extract(model, (wide, Y), **asked)
    assert found.in_keras.after.worth > 0.95 > found.comparison.after.worth
    with pytest.raises(tflite_export.VerificationError, match="away from the model"):
        found.save(tmp_path / "pets.tflite")
    assert found.save(tmp_path / "pets.keras").exists()


def test_wrong_variants_are_refused_before_the_data_are_gone_over(model):
    seen = []

    def batches():
        seen.append(1)
        return iter([(X, Y)])

    with pytest.raises(tflite_export.OptionError, match="int7"):
        nns.extract(model, batches, labels=3, budget="9kB", quantize="int7")
    with pytest.raises(nns.errors.SelectionError, match=r"\(int8\) is below one unit"):
        nns.extract(model, batches, labels=3, budget="1kB", quantize="int8")
    assert len(seen) <= 1


def test_every_point_of_a_sweep_is_a_file(model):
    found = nns.sweep(
        model, (X, Y), labels=3, sizes=[0.6, 1], unit="bytes", quantize="int8", repair=False
    )
    for point in found.points:
        assert point.costs.tflite_bytes == len(point.flat)
        assert tflite_export.read_metadata(point.flat).quantize == "int8"
        x, y = held_out(model, X, Y)
        by_hand = balanced(y == 3, answers(point.flat, x)[:, 0] >= 0.5, asked=(1,))
        assert np.isclose(point.worth, by_hand)
    assert "of .tflite (int8)" in str(found)


def test_numbers_are_judged_on_the_file_too():
    x = X[:, :4]
    y = (x @ [[1.0], [2.0], [-1.0], [0.5]]).astype("float32")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), L.Dense(32, activation="relu"), L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.fit(x, y, epochs=30, verbose=0)
    found = nns.extract(model, (x, y), budget="parameters=120", quantize="int8")
    kept, truth = held_out(model, x, y)[0], None
    truth = kept @ [[1.0], [2.0], [-1.0], [0.5]]
    for comparison, said in (
        (found.comparison, answers(found.flat, kept)),
        (found.in_keras, np.asarray(found.model(kept))),
    ):
        r2 = 1 - ((said - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
        assert np.isclose(comparison.after.worth, r2, atol=1e-5)
    assert found.comparison.after.worth != found.in_keras.after.worth


# Photos -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of pictures, one colour for each label, and their arrays."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    names = ["ant", "bee", "cat", "dog", "elk"]
    for number, name in enumerate(names):
        (folder / name).mkdir()
        for i in range(24):
            pixels = np.clip(rng.normal(90, 30, (4, 3, 3)), 0, 255)
            pixels[..., number % 3] += 60 * (1 + number // 3)
            Image.fromarray(np.clip(pixels, 0, 255).astype("uint8")).save(
                folder / name / f"{i}.png"
            )
    return folder


def test_a_folder_of_photos_in_one_line(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures = {
        name: [np.asarray(Image.open(path)) for path in sorted((photos / name).iterdir())]
        for name in sorted(p.name for p in photos.iterdir())
    }
    x = np.concatenate([np.stack(some) for some in pictures.values()]) / np.float32(255)
    y = np.repeat(np.arange(LABELS), [len(some) for some in pictures.values()])
    nns.save_model(trained(x.astype("float32"), y, shape=(4, 3, 3)), "model.keras")
    line = ["extract", "model.keras", str(photos), "--label", "cat", "--label", "dog"]
    assert main([*line, "--budget", "9kB", "--quantize", "int8", "-o", "pets.tflite"]) == 0
    shown = capsys.readouterr()
    flat = (tmp_path / "pets.tflite").read_bytes()
    assert len(flat) <= 9000
    assert f"{len(flat):,} bytes" in shown.out
    metadata = tflite_export.read_metadata(flat)
    assert metadata.outputs[0].labels == ("cat", "dog", "other")
    assert metadata.inputs[0].normalization == tflite_export.Normalization((0.0,), (255.0,))
    assert "keras-nns card pets.tflite" in shown.out
    # Without a variant it is float32, since a file was asked for.
    assert main([*line, "--budget", "20kB", "-o", "float.tflite"]) == 0
    assert tflite_export.read_metadata((tmp_path / "float.tflite").read_bytes()).quantize == (
        "float32"
    )


def test_a_model_that_scales_pictures_itself_says_so_in_its_file(photos):
    model = keras.Sequential(
        [
            keras.Input((4, 3, 3)),
            L.Rescaling(1 / 255),
            L.Flatten(),
            L.Dense(12, activation="relu"),
            L.Dense(LABELS, activation="softmax"),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It was not trained.
        found = nns.extract(
            model, photos, labels=["cat", "dog"], budget="parameters=300", repair=False
        )
    normalization = tflite_export.read_metadata(found.flat).inputs[0].normalization
    assert normalization == tflite_export.Normalization((0.0,), (1.0,))
