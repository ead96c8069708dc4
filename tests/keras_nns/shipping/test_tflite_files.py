"""What ships with a network: its record in the file, and a card that asks each its question."""

import itertools
import json
import zipfile

import keras
import numpy as np
import pytest

import keras_nns as nns
import tflite_export
from keras_nns.cli import main
from keras_nns.reporting.document import surgery_report
from keras_nns.reporting.operation import operate, to_tflite
from keras_nns.shipping import tflite_files
from keras_nns.tables import Table

layers = keras.layers
NAMES = ("ant", "bee", "cat")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def parts():
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    y = np.arange(150) % 3
    x = (random.normal(size=(150, 5)) + 2 * np.eye(5)[y]).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu", name="one"),
            layers.Dense(3, activation="softmax", name="answer"),
        ],
        name="net",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=8, verbose=0)
    activity = nns.observe(model, x, y, label_names=NAMES)
    # Other samples: figures are not taken on what was observed.
    x = (random.normal(size=(150, 5)) + 2 * np.eye(5)[y]).astype("float32")
    return model, activity, x, y


def subnetwork(parts, labels, head):
    model, activity, _, _ = parts
    plan = nns.select(activity, labels=labels, score=nns.scores.contrast, keep=nns.top(5))
    return nns.cut(model, plan, head=head)


@pytest.mark.slow
def test_the_file_holds_the_record_of_its_network(parts, tmp_path):
    small = subnetwork(parts, [1, 2], "other")
    flat, _ = to_tflite(small, parts[2])
    metadata = tflite_export.read_metadata(flat)
    assert metadata.labels == ("bee", "cat", "other")
    assert nns.lineage(small).seen is not None
    assert tflite_files.packed_origin(metadata) == nns.lineage(small)
    assert tflite_files.packed_origin(metadata).seen is None, "sketches of samples stay at home"
    with zipfile.ZipFile(tflite_export.save(flat, tmp_path / "small.tflite")) as archive:
        record = json.loads(archive.read("keras_nns.json"))
    (choice, *_) = record["plan"]["choices"]
    assert (choice["score"], choice["keep"]) == ("contrast", "top(5)")
    parent = tflite_export.read_metadata(to_tflite(parts[0], parts[2], label_names=NAMES)[0])
    assert tflite_files.packed_origin(parent) is None and parent.labels == NAMES


@pytest.mark.slow
def test_a_damaged_record_is_said(parts):
    flat = tflite_export.convert(parts[0], files={"keras_nns.json": {"format": "other"}})
    with pytest.raises(nns.errors.FileError, match="damaged"):
        tflite_files.packed_origin(tflite_export.read_metadata(flat))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "head"), [(2, "parent"), ([0, 2], "labels"), ([1, 2], "other"), (2, "binary")]
)
def test_every_head_is_judged_by_its_own_question(parts, labels, head):
    model, _, x, y = parts
    small = subnetwork(parts, labels, head)
    flats = {"net": to_tflite(model, x, label_names=NAMES)[0], "cut": to_tflite(small, x)[0]}
    card = tflite_files.device_card(flats, x, y, label_names=NAMES, seconds=0)
    expected = nns.evaluate(small, (x, y), label_names=NAMES)
    found = {row.name: row for row in card.rows[1].labels}
    for row in expected.rows:
        assert found[row.name].recall == pytest.approx(row.recall, nan_ok=True)
        assert found[row.name].specificity == pytest.approx(row.specificity)
    assert card.rows[0].samples == 150
    assert card.rows[1].samples == (100 if head == "labels" else 150)
    assert card.rows[0].accuracy == pytest.approx(
        (model.predict(x, verbose=0).argmax(axis=1) == y).mean()
    )


@pytest.mark.slow
def test_a_card_needs_one_label_each(parts):
    model, _, x, y = parts
    flats = {"net": to_tflite(model, x)[0]}
    with pytest.raises(nns.errors.DataError, match="one label each"):
        tflite_files.device_card(flats, x, np.eye(3)[y], label_names=NAMES)
    few = {"two": to_tflite(subnetwork(parts, [0, 1], "labels"), x)[0]}
    with pytest.raises(nns.errors.DataError, match="None of the samples"):
        tflite_files.device_card(few, x[y == 2], y[y == 2], label_names=NAMES, seconds=0)
    with pytest.raises(nns.errors.DataError, match="3 outputs"):
        tflite_files.device_card(flats, x, y, label_names=("ant", "bee"), seconds=0)


@pytest.mark.parametrize("count", [1, 7, 30, 100, 150, 500])
@pytest.mark.parametrize("form", ["arrays", "stream"])
def test_samples_are_spread_and_keep_their_labels(parts, count, form):
    model, _, x, y = parts
    x, y = x[np.argsort(y)], np.sort(y)
    data = (x, np.array(NAMES)[y])
    if form == "stream":
        # Batches of unequal sizes, and nobody knows how many there are.
        ends = [0, 7, 8, 60, 150]
        data = lambda: ((x[a:b], y[a:b]) for a, b in itertools.pairwise(ends))  # noqa: E731
    inputs, labels, names = tflite_files.labelled_samples(model, data, count, label_names=NAMES)
    assert names == NAMES and len(inputs) == min(count, 150)
    places = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in inputs]
    np.testing.assert_array_equal(y[places], labels)
    assert places == sorted(set(places))
    # Evenly spread, to the coarseness of what is held while reading.
    even = 150 / min(count, 150)
    assert max(np.diff([*places, 150]) if count > 1 else [0]) <= 1.5 * even + 1


def test_ranges_are_measured_on_a_networks_own_labels(parts, monkeypatch):
    model, _, x, y = parts
    seen = {}
    monkeypatch.setattr(tflite_export, "convert", lambda *_, **options: seen.update(options) or b"")
    small = subnetwork(parts, [0, 2], "labels")
    tflite_files.to_variant(small, "int8", (x, y, NAMES))
    np.testing.assert_array_equal(seen["samples"], x[y != 1])
    np.testing.assert_array_equal(seen["targets"], (y[y != 1] == 2).astype(int))
    tflite_files.to_variant(subnetwork(parts, 2, "binary"), "int8", (x, y, NAMES))
    np.testing.assert_array_equal(seen["targets"], (y == 2).astype(int))
    tflite_files.to_variant(model, "int8", (x, np.eye(3)[y], NAMES))
    assert seen["targets"] is None and len(seen["samples"]) == 150
    tflite_files.to_variant(model, "float16", (x, y, NAMES))
    np.testing.assert_array_equal(seen["samples"], x)


@pytest.mark.slow
def test_the_report_shows_the_files_costs(parts):
    model, activity, x, y = parts
    plans = nns.select(activity, labels="each", score="mean_activation")[:2]
    done = operate(model, activity, plans, x, y, samples=x[:20], export=True)
    page = surgery_report(done.record)
    (table,) = [b for b in page.blocks if isinstance(b, Table) and b.columns[0] == "file"]
    assert [row[0] for row in table.rows] == ["parent", "ant", "bee", "merged"]
    for row in table.rows:
        assert row[1] == f"{len(done.tflite[row[0]]):,}"
        median, rest = row[-1].split(" (")
        assert 0 < float(median.replace(",", "")) <= float(rest.rstrip(")").replace(",", ""))
    without = operate(model, activity, plans, x, y)
    assert without.record.card is None
    assert not any("on a device" in getattr(b, "text", "") for b in surgery_report(
        without.record).blocks)  # fmt: skip


@pytest.fixture(scope="module")
def shop(parts, tmp_path_factory):
    model, _, x, y = parts
    folder = tmp_path_factory.mktemp("card")
    nns.save_model(model, folder / "net.keras")
    small = subnetwork(parts, 2, "binary")
    nns.save_model(small, folder / "cat.keras")
    tflite_export.save(to_tflite(small, x)[0], folder / "cat.tflite")
    np.savez(folder / "data.npz", x=x, y=np.array(NAMES)[y])
    return folder


@pytest.mark.slow
def test_the_command_puts_parent_and_variants_side_by_side(shop, parts, capsys):
    argv = ["card", f"{shop}/net.keras", f"{shop}/cat.keras", f"{shop}/cat.tflite"]
    argv += ["--quantize", "int8", "--samples", f"{shop}/data.npz"]
    # What random weights answer does not tell in which order the labels are.
    argv += ["--label-names", ",".join(NAMES)]
    assert main([*argv, "--format", "json", "--threads", "1", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == [
        "net.keras", "net.keras int8", "cat.keras", "cat.keras int8", "cat.tflite",
    ]  # fmt: skip
    assert [row["variant"] for row in rows] == ["float32", "int8"] * 2 + ["float32"]
    assert [time["threads"] for time in rows[0]["latency"]] == [1, 2]
    assert [label["name"] for label in rows[0]["labels"]] == list(NAMES)
    assert [label["name"] for label in rows[2]["labels"]] == ["not cat", "cat"]
    assert rows[2]["labels"] == rows[4]["labels"], "a file remembers its question"


def test_the_command_reads_files_alone_and_prints_tables(shop, capsys):
    assert main(["card", f"{shop}/cat.tflite", "--samples", f"{shop}/data.npz"]) == 0
    said = capsys.readouterr()
    assert "arena bytes, at least" in said.out and "not cat" in said.out
    assert main(["card", f"{shop}/cat.tflite", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("|  | cat.tflite |")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["@cat.tflite", "--quantize", "int8"], "only .tflite files"),
        (["@net.keras", "--quantize", "int8"], "pass --samples"),
        (["@none.tflite"], "cannot read"),
        (["@data.npz"], "Expected a `.keras`"),
    ],
)
def test_wrong_use_of_the_command(argv, words, shop, capsys):
    assert main(["card", *[word.replace("@", f"{shop}/") for word in argv]]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_files_with_several_inputs_need_their_model(shop, tmp_path, capsys):
    inputs = [keras.Input((2,)), keras.Input((2,))]
    flat = tflite_export.convert(keras.Model(inputs, layers.Add()(inputs)))
    tflite_export.save(flat, tmp_path / "two.tflite")
    assert main(["card", str(tmp_path / "two.tflite"), "--samples", f"{shop}/data.npz"]) == 1
    assert "one input and one output" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failed_export_leaves_the_converters_log_in_a_file(tmp_path, capsys):
    inputs = keras.Input((4, 4))
    keras.Model(inputs, keras.ops.linalg.cholesky(inputs)).save(tmp_path / "odd.keras")
    argv = ["export", f"{tmp_path}/odd.keras", "-o", f"{tmp_path}/odd.tflite"]
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert "Cholesky" in said and f"{tmp_path}/odd.tflite.log" in said and said.count("\n") == 1
    assert "tf.Cholesky" in (tmp_path / "odd.tflite.log").read_text()
    assert not (tmp_path / "odd.tflite").exists()


@pytest.mark.slow
def test_a_cut_model_is_trained_for_int8_and_clustered(parts, capfd):
    pytest.importorskip("tensorflow_model_optimization", reason="needs keras-nns[tfmot]")
    pytest.importorskip("tf_keras", reason="needs keras-nns[tfmot]")
    model, _, x, y = parts
    small = nns.repair(subnetwork(parts, [0, 2], "labels"), model, x).model
    own, answers = tflite_files.own_answers(small, (x, y, NAMES))
    few = tflite_export.cluster_weights(small, own, answers, clusters=4, epochs=1)
    assert len(np.unique(few.layers[0].get_weights()[0])) <= 4
    capfd.readouterr()
    done = tflite_export.train_quantized(small, own, answers, epochs=30)
    assert capfd.readouterr() == ("", "")
    found = tflite_export.verify(done.flat, done.model, own, targets=answers)
    assert found.variant == "int8"
    for both in found.labels:
        assert both.file.balanced_accuracy > both.model.balanced_accuracy - 0.05
