"""Files that Keras 2 itself wrote answer as they did there: `tests/support/old_files`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from tflite_export.cli import main as export

FILES = Path(__file__).parents[2] / "support" / "old_files"
ANSWERS = np.load(FILES / "answers.npz")
NAMES = ("nested", "recurrent", "attention", "shared")


def given(name):
    """What a model was given, and what Keras 2 answered, by the keys of its inputs and outputs."""
    both = []
    for side in ("x", "y"):
        start = f"{name}/{side}/"
        both.append({k.removeprefix(start): ANSWERS[k] for k in ANSWERS if k.startswith(start)})
    return both


def answers(model, x):
    """What a model answers to it, by key."""
    flat = x if not next(iter(x)).isdigit() else list(x.values())
    found = model(flat if len(flat) > 1 else flat[0], training=False)
    if not isinstance(found, dict):
        found = dict(enumerate(found if isinstance(found, list | tuple) else [found]))
    return {str(key): np.asarray(y) for key, y in found.items()}


@pytest.fixture(params=[f"{name}.{suffix}" for name in NAMES for suffix in ("h5", "keras")])
def file(request):
    return FILES / request.param


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*was written by Keras 2")
def test_it_answers_what_keras_2_answered(file):
    x, right = given(file.stem)
    found = answers(nns.load_model(file), x)
    assert found.keys() == right.keys()
    for key, y in right.items():
        np.testing.assert_allclose(found[key], y, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*was written by Keras 2")
@pytest.mark.parametrize("name", ["nested", "recurrent", "shared"])
def test_it_is_cut_and_proven(name):
    model = nns.load_model(FILES / f"{name}.h5")
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    assert sizes
    plan = Plan(graph.fingerprint, sizes, {name: range(size - 1) for name, size in sizes.items()})
    assert nns.prove(model, plan).exact


def test_what_was_changed_is_listed_in_one_warning():
    with pytest.warns(UserWarning) as caught:
        model = nns.load_model(FILES / "attention.h5")
    (warning,) = caught
    told = str(warning.message)
    assert "was written by Keras 2.21.0" in told
    assert "ThresholdedReLU became ReLU, which computes the same" in told
    assert "left out `groups=1`, which says nothing (Conv1DTranspose)" in told
    assert not model.compiled


@pytest.mark.slow
def test_how_it_was_compiled_is_kept():
    with pytest.warns(UserWarning, match="was written by Keras 2"):
        model = nns.load_model(FILES / "nested.h5")
    x, right = given("nested")
    labels = np.eye(3)[right["0"].argmax(axis=1)]
    loss, accuracy = model.evaluate(x["0"], labels, verbose=0)
    assert accuracy == 1.0
    assert loss == pytest.approx(-np.log(right["0"].max(axis=1)).mean(), rel=1e-5)


@pytest.mark.parametrize("file", ["nested.h5", "shared.h5"], indirect=True)
def test_keras_alone_refuses_it(file):
    with pytest.raises((TypeError, ValueError)):
        keras.saving.load_model(file)


@pytest.mark.parametrize("file", ["nested.h5", "recurrent.keras"], indirect=True)
def test_the_exporters_own_command_names_the_one_that_reads_it(file, tmp_path, capsys):
    assert export(["export", str(file), "-o", str(tmp_path / "out.tflite")]) == 1
    assert "Keras 2.21.0, whose hard_sigmoid is another" in capsys.readouterr().err
