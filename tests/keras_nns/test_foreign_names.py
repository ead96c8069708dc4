"""Names that a terminal would obey, or that UTF-8 cannot write: shown harmlessly, kept in files."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
import tflite_export
from keras_nns.errors import DataError, NNSError, SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.reporting.document import surgery_report, write
from keras_nns.reporting.operation import operate

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:.*as by chance:keras_nns.errors.DataWarning",
)
NAMES = ["\x1b[31mcat\x1b[0m", "do\ng\x9b2J", "caf\udce9", "\u202egnp"]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
X = np.random.default_rng(0).normal(size=(160, 6)).astype("float32")
Y = X[:, :4].argmax(axis=1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [keras.Input((6,)), layers.Dense(12, "relu", name="h"), layers.Dense(4, "softmax")]
    )
    made.layers[0].set_weights([np.tile(np.eye(6, dtype="float32"), (1, 2)), np.ones(12)])
    head = np.tile(np.eye(6, 4, dtype="float32"), (2, 1))
    made.layers[1].set_weights([head, np.full(4, 0.01, "float32")])
    return made


@pytest.fixture(scope="module")
def activity(model):
    return nns.observe(model, X[:80], Y[:80], label_names=NAMES, verbose=False)


@pytest.fixture(scope="module")
def plan(activity):
    return nns.select(activity, [0, 1, 2], keep=nns.top(4))


def harmless(text):
    assert not CONTROL.search(text), text
    return text


def test_results_show_them_escaped(model, activity, plan):
    small = nns.cut(model, plan, head="labels")
    test = X[80:], Y[80:]
    shown = {
        "activity": activity,
        "plan": plan,
        "inspection": nns.inspect(model),
        "overlap": nns.overlap(nns.select(activity, "each", keep=nns.top(4))),
        "evaluation": nns.evaluate(small, test, label_names=NAMES),
        "comparison": nns.compare(model, small, test, label_names=NAMES),
        "repair": nns.repair(small, model, (X, Y), label_names=NAMES),
        "extraction": nns.extract(
            model, (X, Y), labels=NAMES[:2], label_names=NAMES, budget="parameters=60"
        ),
    }
    for name, result in shown.items():
        for text in (str(result), repr(result)):
            assert harmless(text), name
        for form in ("to_markdown", "_repr_html_"):
            if hasattr(result, form):
                harmless(getattr(result, form)())
    assert r"\x1b[31mcat\x1b[0m, do\ng\x9b2J, caf\udce9" in str(plan)


def test_errors_show_them_escaped(activity, model):
    with pytest.raises(SelectionError, match=r"one of: \\x1b\[31mcat") as caught:
        nns.select(activity, "none")
    harmless(str(caught.value))
    with pytest.raises(DataError, match=r"\\x1b\[31mcat") as caught:
        nns.observe(model, X, Y, label_names=[*NAMES, "five"])
    harmless(str(caught.value))
    assert harmless(str(NNSError("\x1b[2Jgone"))) == r"\x1b[2Jgone"
    assert harmless(str(tflite_export.OptionError("\x1b[2J"))) == r"\x1b[2J"


def test_files_keep_them(model, activity, plan, tmp_path):
    activity.save(tmp_path / "a.npz")
    assert list(Activity.load(tmp_path / "a.npz").label_names) == NAMES
    plan.save(tmp_path / "p.json")
    assert list(Plan.load(tmp_path / "p.json").label_names) == NAMES
    small = nns.cut(model, plan, head="labels")
    nns.save_model(small, tmp_path / "small.keras")
    read = nns.lineage(nns.load_model(tmp_path / "small.keras"))
    assert list(read.label_names) == NAMES[:3]
    nns.store(model, {NAMES[2]: small}, tmp_path / "b.safetensors")
    bundle = nns.Bundle.open(tmp_path / "b.safetensors")
    assert list(bundle.plans) == [NAMES[2]]
    harmless(str(bundle) + repr(bundle))


@pytest.mark.slow
def test_a_report_shows_them_escaped(model, activity, plan, tmp_path):
    done = operate(
        model,
        activity,
        [plan],
        (X[80:], Y[80:]),
        label_names=NAMES,
        batch_size=32,
        head="labels",
        merged=False,
        confidence=None,
        allow_overlap=False,
        notes=(),
        tell=lambda text: None,
    )
    write(surgery_report(done.record), tmp_path)
    pages = [path.read_text("utf-8") for path in Path(tmp_path).glob("report.*")]
    assert len(pages) == 2
    for page in pages:
        harmless(page)


FIELDS = ["name", "description", "version", "author", "license"]


@pytest.mark.parametrize("field", FIELDS)
def test_metadata_is_text_that_every_reader_can_read(model, field):
    flat = tflite_export.convert(model)
    for wrong in ("caf\udce9", 1.0):
        said = "write 'café' instead" if isinstance(wrong, str) else "must be text"
        with pytest.raises(tflite_export.MetadataError, match=f"metadata's {field} .*{said}"):
            tflite_export.add_metadata(flat, **{field: wrong})
    right = tflite_export.add_metadata(flat, **{field: "café"})
    assert getattr(tflite_export.read_metadata(right), field) == "café"
    with pytest.raises(tflite_export.MetadataError, match=r"the text of file 'a\.txt'"):
        tflite_export.add_metadata(flat, files={"a.txt": "caf\udce9"})
    with pytest.raises(tflite_export.MetadataError, match="description"):
        tflite_export.convert(model, description="\udce9")


def test_a_text_file_names_what_utf_8_cannot_write(tmp_path):
    with pytest.raises(tflite_export.ExportFileError, match=r"'\\udce9' in place 3"):
        tflite_export.save("caf\udce9", tmp_path / "text.h")
    assert not list(tmp_path.iterdir())
