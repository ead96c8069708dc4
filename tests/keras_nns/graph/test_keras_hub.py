"""Backbones of KerasHub with random weights: heads and hidden units cut, equal to the mask."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from architectures import random_plan
from contract import randomise

import keras_nns as nns
from keras_nns.engine.double import in_double
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.tracing import trace
from keras_nns.surgery.building import built
from keras_nns.surgery.heads import answer_of
from keras_nns.surgery.masking import masked
from keras_nns.surgery.precision import Side
from keras_nns.surgery.proving import TOLERANCE

NAMES = ("ResNet", "MobileNet", "ViT", "BERT", "GPT-2", "Llama", "Gemma")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        # Random plans keep other numbers in each block; test_same_class.py asks for this warning.
        "ignore:What is left of",
    ),
]


@pytest.fixture(scope="module")
def backbones():
    from hub_backbones import BACKBONES

    assert set(NAMES) == set(BACKBONES)
    return BACKBONES


def answers(model, x):
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


@pytest.mark.parametrize("name", NAMES)
def test_cut_equals_mask_and_survives_a_file(name, backbones, tmp_path):
    build, unfolded, free = backbones[name]
    parent = model = randomise(build())
    if unfolded:
        model = nns.unfold(parent)
    graph = trace(model)
    assert sum(g.size - len(g.protected) for g in graph.layout.groups) == free
    x = sample_inputs(graph, 4, seed=3)
    before = answers(parent, x)
    for one, other in zip(before, answers(model, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(one).max())
    for seed, share in enumerate((0.1, 0.5, 0.8)):
        plan = random_plan(graph, share, seed)
        small = nns.cut(model, plan)
        assert nns.prove(model, plan, samples=x).relative <= TOLERANCE
        assert small.count_params() < model.count_params()
        found = answers(small, x)
        # A plan that changes nothing would prove nothing.
        assert max(np.abs(a - b).max() for a, b in zip(found, before, strict=True)) > 0.01
    for one, other in zip(before, answers(parent, x), strict=True):
        np.testing.assert_array_equal(one, other)

    nns.save_model(small, tmp_path / "small.keras")
    again = nns.load_model(tmp_path / "small.keras")
    for one, other in zip(found, answers(again, x), strict=True):
        np.testing.assert_array_equal(one, other)
    # What was cut can be cut again.
    second = random_plan(trace(again), 0.5, 5)
    assert nns.prove(again, second, samples=x).relative <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_all_of_it_computes_in_float64_where_a_proof_needs_that(name, backbones):
    build, unfolded, _ = backbones[name]
    model = randomise(build())
    model = nns.unfold(model) if unfolded else model
    graph = trace(model)
    x, plan = sample_inputs(graph, 4, seed=3), random_plan(graph, 0.5, 1)
    answer = answer_of(graph, plan, "parent", None)
    large = Side(nns.mask(model, plan), x, lambda dtype: masked(graph, plan, answer, dtype=dtype))
    small = Side(large.model, x, lambda dtype: built(graph, plan, answer, "sliced", dtype=dtype)[0])
    with in_double():
        whole = large.in_double()
        # Layers that cast to float32 would give answers that jump.
        assert whole.is_smooth()
        found = zip(small.in_double().answers(), whole.answers(), strict=True)
    for one, other in found:
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())


def test_heads_and_hidden_units_leave_the_decoder(backbones):
    model = randomise(backbones["GPT-2"][0]())
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()}
    kept["transformer_layer_0:heads"] = (1, 2, 3)
    kept["transformer_layer_1:hidden"] = (0, 5)
    small = nns.cut(model, nns.Plan(graph.fingerprint, sizes, kept), prove=True)
    first, second = (small.get_layer(f"transformer_layer_{i}") for i in (0, 1))
    attention = first._self_attention_layer
    # Three heads of four dimensions, out of a stream of sixteen.
    assert tuple(attention._query_dense.kernel.shape) == (16, 3, 4)
    assert tuple(attention._output_dense.kernel.shape) == (3, 4, 16)
    assert second._feedforward_intermediate_dense.units == 2
    old = model.get_layer("transformer_layer_0")._self_attention_layer._query_dense.kernel
    np.testing.assert_array_equal(attention._query_dense.kernel, np.asarray(old)[:, 1:])


def test_a_file_with_layers_of_keras_hub_imports_it(backbones, tmp_path):
    model = randomise(backbones["Llama"][0]())
    path = tmp_path / "small.keras"
    nns.save_model(nns.cut(model, random_plan(trace(model), 0.5, 0)), path)
    code = f"import keras_nns; print(keras_nns.load_model({str(path)!r}).count_params())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < model.count_params()


@pytest.mark.parametrize("name", ["Llama", "Gemma"])
def test_query_heads_leave_one_by_one_where_one_key_and_value_head_serves_them(name, backbones):
    from keras_hub import models

    settings = {"vocabulary_size": 50, "num_layers": 1, "hidden_dim": 16, "intermediate_dim": 24}
    heads = {"num_query_heads": 4, "num_key_value_heads": 1}
    more = {"head_dim": 4} if name == "Gemma" else {}
    model = randomise(getattr(models, f"{name}Backbone")(**settings, **heads, **more))
    graph = trace(model)
    (group,) = [group for group in graph.layout.prunable if group.name.endswith(":heads")]
    assert group.size == 4
    sizes = {g.name: g.size for g in graph.layout.prunable}
    kept = {n: tuple(range(size)) for n, size in sizes.items()} | {group.name: (0, 2, 3)}
    small = nns.cut(model, nns.Plan(graph.fingerprint, sizes, kept), prove=True)
    assert small.count_params() < model.count_params()
