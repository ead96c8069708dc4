"""What is seen inside KerasHub's blocks, held against numpy on what their sublayers are given."""

from __future__ import annotations

from importlib.util import find_spec

import keras
import numpy as np
import pytest
from contract import randomise

import keras_nns as nns

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        # Families without a row of their own; test_same_class.py asks for this warning.
        "ignore:What is left of",
    ),
]

SAMPLES, STEPS = 6, 5
KINDS = np.arange(SAMPLES) % 2


@pytest.fixture(scope="module")
def model_of():
    from hub_families import FAMILIES

    made = {}

    def build(name):
        if name not in made:
            made[name] = randomise(FAMILIES[name].build())
        return made[name]

    return build


def texts(seed=0, behind=0):
    """Token sequences of 2 to 5 tokens; `behind` is what stands where there is none."""
    random = np.random.default_rng(seed)
    tokens = random.integers(1, 30, (SAMPLES, STEPS))
    mask = np.arange(STEPS) < np.array([5, 3, 4, 2, 5, 3])[:, None]
    return {
        "token_ids": np.where(mask, tokens, behind).astype("int32"),
        "padding_mask": mask.astype("int32"),
    }


def inputs_of(model):
    if not isinstance(model.input, dict):
        images = np.random.default_rng(1).normal(size=(SAMPLES, 8, 8, 3)).astype("float32")
        return images, None
    x = texts()
    if "segment_ids" in model.input:
        x["segment_ids"] = np.zeros((SAMPLES, STEPS), "int32")
    return x, x["padding_mask"].astype(bool)


def heard(layer, model, x):
    """Return the first call of a layer: its arguments, keyword arguments and answer."""
    found, own = [], layer.call

    def call(*args, **kwargs):
        answer = own(*args, **kwargs)
        found.append((args, kwargs, answer))
        return answer

    vars(layer)["call"] = call
    try:
        model(x, training=False)
    finally:
        del vars(layer)["call"]
    return found[0]


def by_kind(values, mask):
    """Average over the positions that count, and then over the samples of each kind."""
    mask = np.ones(values.shape[:2], bool) if mask is None else mask
    each = np.stack([v[m].mean(axis=0) for v, m in zip(values, mask, strict=True)])
    return np.stack([each[kind == KINDS].mean(axis=0) for kind in (0, 1)])


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    """GELU in its tanh form."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def erf_gelu(x):
    return np.asarray(keras.ops.gelu(x, approximate=False))


def weights(dense):
    return np.asarray(dense.kernel, np.float64), 0 if dense.bias is None else np.asarray(dense.bias)


def at(layer, path):
    for step in path.split("."):
        layer = layer[int(step)] if step.isdigit() else getattr(layer, step)
    return layer


FEED = "_feedforward_intermediate_dense"
# Block, projection of hidden units, its gate if it has one, activation of the gate or of the units.
HIDDEN = {
    "Llama": ("transformer_layer_0", FEED, "_feedforward_gate_dense", silu),
    "Gemma": ("decoder_block_0", "gating_ffw_2", "gating_ffw", gelu),
    "GPT-2": ("transformer_layer_0", FEED, None, gelu),
    "BERT": ("transformer_layer_0", FEED, None, gelu),
    "ViT": ("vit_encoder", "encoder_layers.0.mlp.dense_1", None, erf_gelu),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_units_are_what_numpy_says(name, model_of):
    model = model_of(name)
    block, up, gate, activation = HIDDEN[name]
    layer = model.get_layer(block)
    x, mask = inputs_of(model)
    given = np.asarray(heard(at(layer, up), model, x)[0][0], np.float64)
    kernel, bias = weights(at(layer, up))
    expected = given @ kernel + bias
    if gate is None:
        expected = activation(expected)
    else:
        kernel, bias = weights(at(layer, gate))
        expected = expected * activation(given @ kernel + bias)
    activity = nns.observe(model, x, KINDS)
    unit = f"{block}:{'transformer_block_1.' if name == 'ViT' else ''}hidden"
    np.testing.assert_allclose(activity.mean(unit), by_kind(expected, mask), rtol=1e-4, atol=1e-5)
    found = by_kind(np.abs(expected), mask)
    np.testing.assert_allclose(activity.magnitude(unit), found, rtol=1e-4, atol=1e-5)


# Block, attention, output projection, heads that leave by themselves.
HEADS = {
    "Llama": ("transformer_layer_0", "_self_attention_layer", "_output_dense", 2),
    "Gemma": ("decoder_block_0", "attention", "output_dense", 2),
    "GPT-NeoX": ("transformer_layer_0", "_self_attention_layer", "_output_dense", 4),
    "Falcon": ("transformer_layer_0", "attention_layer", "output_dense", 4),
    "BERT": ("transformer_layer_0", "_self_attention_layer", "_output_dense", 4),
    "ViT": ("vit_encoder", "encoder_layers.0.mha", "_output_dense", 4),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_what_the_attention_answers_without_the_others(name, model_of):
    model = model_of(name)
    block, path, output, heads = HEADS[name]
    layer = model.get_layer(block)
    attention = at(layer, path)
    kernel = getattr(attention, output)._kernel
    bias = getattr(attention, output).bias
    x, mask = inputs_of(model)
    args, kwargs, _ = heard(attention, model, x)
    whole = np.asarray(kernel).copy()
    rows = whole.reshape(heads, -1, whole.shape[-1])
    shares = []
    try:
        for head in range(heads):
            alone = np.zeros_like(rows)
            alone[head] = rows[head]
            kernel.assign(alone.reshape(whole.shape))
            answer = keras.tree.flatten(attention(*args, **kwargs))[0]
            shares.append(np.asarray(answer) - (0 if bias is None else np.asarray(bias)))
    finally:
        kernel.assign(whole)
    expected = by_kind(np.linalg.norm(np.stack(shares, axis=2), axis=-1), mask)
    unit = f"{block}:{'transformer_block_1.' if name == 'ViT' else ''}heads"
    found = nns.observe(model, x, KINDS).mean(unit)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", ["Mixtral", "Qwen MoE"])
def test_experts_are_what_the_router_sends_them(name, model_of):
    model = model_of(name)
    layer = model.get_layer("transformer_layer_0")
    moe = layer._sparse_moe_block if name == "Mixtral" else layer.mlp
    x, mask = inputs_of(model)
    given = np.asarray(heard(moe, model, x)[0][0], np.float64)
    kernel, _ = weights(moe._sparse_feedforward_gate_dense)
    sent = softmax(given @ kernel)
    # Mixtral shares a token out among its two experts; Qwen takes the softmax as it is.
    sent[sent < np.sort(sent, axis=-1)[..., -2:-1]] = 0
    if name == "Mixtral":
        sent /= sent.sum(axis=-1, keepdims=True)
    activity = nns.observe(model, x, KINDS)
    found = activity.mean("transformer_layer_0:experts")
    np.testing.assert_allclose(found, by_kind(sent, mask), rtol=1e-4, atol=1e-5)

    bank = moe.expert_bank
    gate = np.einsum("bsh,ehm->bsem", given, bank._expert_feedforward_gate_dense)
    if name == "Mixtral":
        up = np.einsum("bsh,ehm->bsem", given, bank._expert_feedforward_intermediate_dense)
    else:
        gate, up = np.split(gate, 2, axis=-1)
    routed = (sent[..., None] * np.abs(silu(gate) * up)).sum(axis=2)
    found = activity.mean("transformer_layer_0:hidden")
    np.testing.assert_allclose(found, by_kind(routed, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Llama", "Mixtral", "GPT-2", "BERT"])
def test_what_stands_behind_a_text_does_not_count(name, model_of):
    model = model_of(name)
    seen = []
    for behind in (0, 7):
        x = texts(behind=behind)
        if name == "BERT":
            x["segment_ids"] = np.zeros((SAMPLES, STEPS), "int32")
        seen.append(nns.observe(model, x, KINDS))
    inside = [layer for layer in seen[0].layers if ":" in layer]
    assert len(inside) >= 4
    for layer in inside:
        one, other = (activity.magnitude(layer) for activity in seen)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def classifier_of(model_of):
    made = {}

    def build(name):
        if name not in made:
            backbone = model_of(name)
            x = keras.layers.GlobalAveragePooling1D()(backbone.output)
            answer = keras.layers.Dense(2, activation="softmax", name="answer")(x)
            made[name] = keras.Model(backbone.input, answer)
            made[name].compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        return made[name]

    return build


@pytest.mark.parametrize("name", ["Llama", "Qwen MoE"])
def test_gradients_are_those_of_finite_differences(name, classifier_of):
    """A unit is turned up and down a little where it is read; the loss follows."""
    model, x = classifier_of(name), texts()
    layer = model.get_layer("transformer_layer_1")
    targets = {"heads": (layer._self_attention_layer._output_dense._kernel, (0,))}
    if name == "Llama":
        targets["hidden"] = (layer._feedforward_output_dense._kernel, (0,))
    else:
        down = layer.mlp.expert_bank._expert_feedforward_output_dense
        targets |= {"experts": (down, (0,)), "hidden": (down, (1,))}
        shared = layer.mlp.shared_expert_dense._feedforward_output_dense._kernel
        targets["shared_hidden"] = (shared, (0,))
    gradients = nns.observe_gradients(model, x, KINDS)

    def losses():
        each = np.asarray(model(x, training=False), np.float64)[np.arange(SAMPLES), KINDS]
        return np.array([-np.log(each)[kind == KINDS].sum() for kind in (0, 1)])

    step = 0.02
    for kind, (kernel, (axis,)) in targets.items():
        own = np.asarray(kernel).copy()
        found = gradients.layers[f"transformer_layer_1:{kind}"].effect
        size = own.shape[axis] // found.shape[1]
        for unit in (0, found.shape[1] - 1):
            place = (slice(None),) * axis + (slice(unit * size, (unit + 1) * size),)
            turned = []
            for factor in (1 + step, 1 - step):
                value = own.copy()
                value[place] *= factor
                kernel.assign(value)
                turned.append(losses())
            kernel.assign(own)
            expected = -(turned[0] - turned[1]) / (2 * step)
            np.testing.assert_allclose(found[:, unit], expected, rtol=0.02, atol=2e-4)


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning")
def test_the_callback_gathers_what_observing_sees(classifier_of):
    model, x = classifier_of("Llama"), texts()
    monitor = nns.ActivityMonitor()
    model.fit(x, KINDS, batch_size=SAMPLES, verbose=0, callbacks=[monitor])
    gathered, observed = monitor.activity, nns.observe(model, x, KINDS)
    for layer in observed.layers:
        one, other = gathered.magnitude(layer), observed.magnitude(layer)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_half_of_a_language_model_is_chosen_by_kind_of_text(model_of):
    from keras_hub.models import LlamaCausalLM

    model = LlamaCausalLM(backbone=model_of("Llama"), preprocessor=None)
    activity = nns.observe(model, texts(), KINDS, label_names=["prose", "code"])
    plan = nns.select(activity, labels="code", keep=nns.fraction(0.5), score="mean_activation")
    assert not plan.unknown
    assert {len(units) for units in plan.kept.values()} == {1, 6}
    assert nns.cut(model, plan, prove=True).output_shape == model.output_shape
    assert all(not group.unwatched for group in nns.inspect(model).groups)


def test_units_are_not_taken_from_a_mixture_while_it_is_trained(classifier_of):
    model = classifier_of("Qwen MoE")
    gradual = nns.GradualCut((texts(), KINDS), share=0.5)
    with pytest.raises(nns.errors.ModelError, match="GradualCut cannot leave experts out"):
        model.fit(texts(), KINDS, epochs=4, verbose=0, callbacks=[gradual])


def test_a_mixture_keeps_as_many_experts_as_a_token_is_sent_to(model_of):
    model = model_of("Mixtral")
    activity = nns.observe(model, texts(), KINDS)
    plan = nns.select(activity, labels=0, keep=nns.top(1), score="mean_activation")
    assert len(plan.kept["transformer_layer_0:experts"]) == 2
    few = {**plan.kept, "transformer_layer_0:experts": (1,)}
    with pytest.raises(nns.errors.PlanError, match="uses 2 of them at once"):
        nns.cut(model, nns.Plan(plan.fingerprint, plan.sizes, few))
