"""Every family of KerasHub: what its blocks hold is seen, and can be cut, equal to the mask."""

from __future__ import annotations

import json
from importlib.util import find_spec

import coverage_page
import keras
import numpy as np
import pytest
from architectures import random_plan
from contract import randomise

import keras_nns as nns
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.tracing import trace
from keras_nns.graph.watching import watch_points
from keras_nns.surgery.proving import TOLERANCE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    ),
    # KerasHub's T5 masks its tokens, and its layers do not hand masks on.
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
]

NAMES = (
    *("Llama", "Llama 3", "SmolLM", "SmolLM 3", "Mistral", "Qwen 2.5", "Qwen 3", "Phi-3"),
    *("Gemma", "Gemma 2", "Gemma 3", "GPT-2", "GPT-NeoX", "OPT", "Bloom", "Falcon"),
    *("Mixtral", "Qwen MoE", "Qwen 3 MoE", "GPT-OSS"),
    *("BERT", "RoBERTa", "XLM-RoBERTa", "DistilBERT", "Electra", "ALBERT", "DeBERTa", "FNet"),
    *("T5", "Bart", "Whisper", "ViT", "DeiT"),
    *("CLIP, images", "CLIP, texts", "MetaCLIP 2, images", "MetaCLIP 2, texts"),
    *("SigLIP, images", "SigLIP, texts"),
)


@pytest.fixture(scope="module")
def families():
    from hub_families import FAMILIES

    assert set(NAMES) == set(FAMILIES)
    return FAMILIES


@pytest.fixture(scope="module")
def model_of(families):
    made = {}

    def build(name):
        if name not in made:
            made[name] = randomise(families[name].build())
        return made[name]

    return build


def answers(model, x):
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def test_the_page_of_coverage_names_every_family(families):
    """Measured by `python tests/support/coverage_page.py --keras-hub`."""
    measured = json.loads(coverage_page.MEASURED_FAMILIES.read_text())
    assert set(measured) == set(families)
    for name, found in measured.items():
        units = sum(found["leaves"].values())
        assert units == sum(families[name].groups.values())
        assert found["watched"] == list(found["leaves"])
        assert found["difference"] <= TOLERANCE
        assert len(found["classes"]) == 2


def test_a_backbone_with_tied_embeddings_is_written_out(model_of):
    """Its own configuration does not say that they are tied: a copy would have two tables."""
    model = model_of("SmolLM")
    flat = nns.unfold(model)
    assert len(flat.weights) == len(model.weights)
    x = sample_inputs(trace(model), 2, seed=3)
    np.testing.assert_array_equal(answers(flat, x)[0], answers(model, x)[0])


@pytest.mark.parametrize("name", ["Llama", "GPT-2", "BERT", "ViT"])
def test_hidden_units_leave_where_all_heads_stay(name, families, model_of):
    model = model_of(name)
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    whole = (":heads", ":block")
    kept = {n: range(size if n.endswith(whole) else size - 1) for n, size in sizes.items()}
    plan = nns.Plan(graph.fingerprint, sizes, {n: tuple(units) for n, units in kept.items()})
    assert nns.prove(model, plan, samples=sample_inputs(graph, 2, seed=3)).relative <= TOLERANCE
    small = nns.cut(model, plan)
    kinds = {type(layer).__module__.split(".")[0] for layer in small.layers}
    # What a class can be told leaves it KerasHub's own; ViT's patching writes none that it takes.
    assert ("keras_nns" in kinds) == (name == "ViT")


@pytest.mark.parametrize("name", NAMES)
def test_units_leave_exactly_and_are_all_watched(name, families, model_of, tmp_path):
    model = model_of(name)
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    assert sizes == families[name].groups
    points = watch_points(graph)
    assert all(member.layer in points for g in graph.layout.prunable for member in g.members)

    x = sample_inputs(graph, 2, seed=3)
    before = answers(model, x)
    plan = random_plan(graph, 0.5, 1)
    proof = nns.prove(model, plan, samples=x)
    assert proof.relative <= TOLERANCE
    assert proof.varied
    small = nns.cut(model, plan)
    assert isinstance(small, type(model))
    measured = json.loads(coverage_page.MEASURED_FAMILIES.read_text())
    assert coverage_page.classes(model) == measured[name]["classes"]
    assert small.count_params() < model.count_params()
    found = answers(small, x)
    # A plan that changes nothing would prove nothing.
    assert max(np.abs(a - b).max() for a, b in zip(found, before, strict=True)) > 0.01
    nns.save_model(small, tmp_path / "small.keras")
    again = nns.load_model(tmp_path / "small.keras")
    assert type(again) is type(small)
    for one, other in zip(found, answers(again, x), strict=True):
        np.testing.assert_array_equal(one, other)
    # What was cut can be cut again.
    assert nns.prove(again, random_plan(trace(again), 0.5, 5), samples=x).relative <= TOLERANCE
    for one, other in zip(before, answers(model, x), strict=True):
        np.testing.assert_array_equal(one, other)
