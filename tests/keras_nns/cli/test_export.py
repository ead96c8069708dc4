"""`keras-nns export` and `python -m tflite_export export`: the same file, the same words."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import tflite_export
from keras_nns.cli import main
from tflite_export.cli import main as standalone

layers = keras.layers
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A trained model of images, one of two inputs, one of tokens, and data for each."""
    folder = tmp_path_factory.mktemp("export")
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    y = np.arange(180) % 3
    x = random.integers(0, 80, (180, 6, 6), dtype=np.uint8)
    for label in range(3):
        x[y == label, 2 * label : 2 * label + 2] += 150
    images = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(),
         layers.Dense(3, activation="softmax")], name="images"
    )  # fmt: skip
    images.compile("adam", "sparse_categorical_crossentropy")
    images.fit(x[..., None] / np.float32(255), y, epochs=25, verbose=0)
    images.save(folder / "images.keras")
    np.savez(folder / "images.npz", x=x, y=y)
    np.save(folder / "images.npy", x)
    left, right = keras.Input((3,), name="left"), keras.Input((4,), name="right")
    both = layers.Dense(2)(layers.Concatenate()([left, right]))
    keras.Model({"left": left, "right": right}, both, name="both").save(folder / "both.keras")
    floats = {"left": random.random((150, 3)), "right": random.random((150, 4))}
    np.savez(folder / "both.npz", **floats)
    tokens = keras.Sequential(
        [keras.Input((5,)), layers.Embedding(7, 4), layers.Bidirectional(layers.GRU(3)),
         layers.Dense(2, activation="softmax")], name="tokens"
    )  # fmt: skip
    tokens.save(folder / "tokens.keras")
    (folder / "names.txt").write_text("a\nb\nc\n")
    (folder / "recipe.json").write_text(json.dumps({"*": "int8", "dense*": "float32"}))
    (folder / "odd.json").write_text(json.dumps({"nothing*": "dynamic"}))
    return folder


SAME = [
    "images.keras",
    "images.keras --quantize dynamic --labels names.txt",
    "images.keras --quantize int8 --samples images.npz --labels names.txt",
    "images.keras --quantize int8 --samples images.npz --sample-count 110",
    "images.keras --quantize recipe.json --samples images.npz",
    "images.keras --quantize int16x8 --samples images.npy --file-batch 4",
    "images.keras --file-batch any --samples images.npz",
    "both.keras --quantize int8_float --samples both.npz",
    "both.keras",
    "tokens.keras",
    "tokens.keras --unroll",
]
REFUSED = [
    "images.keras --quantize int8",
    "images.keras --quantize recipe.json",
    "images.keras --quantize odd.json",
    "images.keras --samples both.npz",
    "images.keras --labels recipe.json",
    "tokens.keras --file-batch any",
    "images.keras --quantize int3",
]


def both_ways(line, shop, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    found = []
    for run in (main, standalone):
        output = tmp_path / "out.tflite"
        status = run(["export", *line.split(), "-o", str(output)])
        flat = output.read_bytes() if output.exists() else None
        output.unlink(missing_ok=True)
        found.append((status, flat, capsys.readouterr()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("line", SAME)
def test_the_same_file_and_the_same_words(line, shop, tmp_path, monkeypatch, capsys):
    ours, theirs = both_ways(line, shop, tmp_path, monkeypatch, capsys)
    assert ours[0] == theirs[0] == 0, (ours[2].err, theirs[2].err)
    assert ours[1] == theirs[1] is not None
    assert ours[2].out == theirs[2].out
    assert "verified on " in ours[2].out
    assert ("generated" in ours[2].out) == ("--samples" not in line)


@pytest.mark.slow
@pytest.mark.parametrize("line", REFUSED)
def test_the_same_refusals(line, shop, tmp_path, monkeypatch, capsys):
    ours, theirs = both_ways(line, shop, tmp_path, monkeypatch, capsys)
    assert ours[0] == theirs[0] == (2 if "int3" in line else 1)
    assert ours[1] is theirs[1] is None
    last = [said.err.splitlines()[-1].split("error: ")[1] for _, _, said in (ours, theirs)]
    assert last[0] == last[1]


@pytest.mark.slow
def test_flex_is_let_in_and_said_by_both(shop, tmp_path, monkeypatch, capsys):
    inputs = keras.Input((4, 4), name="x")
    keras.Model(inputs, keras.ops.linalg.cholesky(inputs)).save(shop / "odd.keras")
    found = both_ways("odd.keras --allow-flex", shop, tmp_path, monkeypatch, capsys)
    for status, flat, said in found:
        assert status == 0
        assert tflite_export.anatomy(flat).flex == ("FlexCholesky",)
        assert "not verified: LiteRT cannot run FlexCholesky" in said.out


@pytest.mark.slow
def test_both_cards_measure_the_same(shop, capsys, monkeypatch):
    monkeypatch.chdir(shop)
    rows = []
    for run in (main, standalone):
        line = "card images.keras --quantize int8 recipe.json --samples images.npz --format json"
        assert run(line.split()) == 0
        rows.append(json.loads(capsys.readouterr().out)["rows"])
    for ours, theirs in zip(*rows, strict=True):
        assert ours["name"] == theirs["name"]
        assert ours["anatomy"] == theirs["anatomy"]
        assert (ours["accuracy"], ours["samples"]) == (theirs["accuracy"], 180)
    assert [row["variant"] for row in rows[0]] == ["float32", "int8", "recipe:int8"]


@pytest.mark.slow
def test_a_network_without_a_graph_is_exported_by_its_recorded_shape(tmp_path, capsys):
    @keras.saving.register_keras_serializable("test_cli_export")
    class Plain(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Plain()
    model(np.ones((1, 4), "float32"))
    model.save(tmp_path / "plain.keras")
    assert main(["export", f"{tmp_path}/plain.keras", "-o", f"{tmp_path}/plain.tflite"]) == 0
    assert "verified on 64 generated inputs" in capsys.readouterr().out


def test_a_c_array_of_any_tflite_file(tmp_path, capsys):
    flat = tflite_export.convert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    (tmp_path / "pets.tflite").write_bytes(flat)
    assert main(["to-c", str(tmp_path / "pets.tflite"), "-o", str(tmp_path / "pets-1.h")]) == 0
    assert (tmp_path / "pets-1.h").read_text() == tflite_export.to_c(flat, "pets_1")
    assert main(["to-c", str(tmp_path / "pets.tflite"), "-o", str(tmp_path / "int.h")]) == 1
    assert "int_model" in capsys.readouterr().err


def test_a_folder_that_builds(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tflite_micro")
    monkeypatch.chdir(tmp_path)
    flat = tflite_export.convert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    Path("pets.tflite").write_bytes(flat)
    told = []
    for run, name in (main, "ours"), (standalone, "theirs"):
        line = f"to-c pets.tflite --project plain -o {name}"
        assert run(line.split()) == 0
        assert capsys.readouterr().out == f"{name}: README.txt in it says how to build\n"
        assert run(line.split()) == 1
        told.append(capsys.readouterr().err.split("error: ")[1])
        assert run([*line.split(), "--overwrite"]) == 0
        assert run([*line.split(), "--overwrite", "--name", "a"]) == 1
        assert "leave it out with --project" in capsys.readouterr().err
    assert told[0].replace("ours", "theirs") == told[1]
    ours, theirs = ({p.name: p.read_text() for p in Path(n).iterdir()} for n in ("ours", "theirs"))
    assert {n: text.replace("theirs", "ours") for n, text in theirs.items()} == ours
    assert main(["to-c", "pets.tflite", "--project", "mbed", "-o", "p"]) == 2


def test_a_page_without_the_library_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flat = tflite_export.convert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    Path("pets.tflite").write_bytes(flat)
    for run in main, standalone:
        assert run(["to-web", "pets.tflite", "-o", "page"]) == 1
        assert "npm install @litertjs/core@2.5.3" in capsys.readouterr().err
    core = Path("node_modules/@litertjs/core")
    (core / "dist").mkdir(parents=True)
    (core / "wasm").mkdir()
    (core / "package.json").write_text('{"name": "@litertjs/core", "version": "2.5.3"}')
    (core / "dist" / "index.js").write_text(
        'import { createWasmLib } from "@litertjs/wasm-utils";\nexport {\n  one\n};\n'
    )
    for ending in "js", "wasm":
        (core / "wasm" / f"litert_wasm_compat_internal.{ending}").write_text("")
    for run, name in (main, "ours"), (standalone, "theirs"):
        assert run(["to-web", "pets.tflite", "-o", name, "--title", "Pets"]) == 0
        assert capsys.readouterr().out == f"{name}: open index.html in it with a browser\n"
    assert Path("ours/index.html").read_text() == Path("theirs/index.html").read_text()
    assert "<h1>Pets</h1>" in Path("ours/index.html").read_text()
