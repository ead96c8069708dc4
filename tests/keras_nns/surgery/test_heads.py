"""Heads: what a subnetwork answers, computed by numpy from the parent's own outputs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras.src.utils.naming import auto_name
from scipy.special import softmax

import keras_nns as nns
from keras_nns.errors import SurgeryError
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan

X = np.random.default_rng(0).normal(size=(11, 5)).astype("float32")
NAMES = ("ant", "bee", "cat", "dog")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def parent(size, activation, *, sequential=True):
    layers = [
        L.Dense(6, activation="relu", name="hidden", bias_initializer="random_normal"),
        L.Dense(size, activation=activation, name="answer", bias_initializer="random_normal"),
    ]
    if sequential:
        return keras.Sequential([keras.Input((5,)), *layers])
    inputs = keras.Input((5,))
    return keras.Model(inputs, layers[1](layers[0](inputs)))


def plan_of(model, labels, names=NAMES):
    """A plan that keeps every unit, so that the parent's own outputs are the oracle."""
    graph = trace(model)
    sizes = {g.name: g.size for g in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()}
    return Plan(graph.fingerprint, sizes, kept, labels, names)


def of_softmax(p, labels, head):
    chosen = p[:, labels]
    return {
        "parent": p,
        "labels": chosen / chosen.sum(axis=1, keepdims=True),
        "other": np.c_[chosen, 1 - chosen.sum(axis=1)],
        "binary": chosen.sum(axis=1, keepdims=True),
    }[head]


def of_logits(z, labels, head):
    if head in ("parent", "labels"):
        return z if head == "parent" else z[:, labels]
    return of_softmax(softmax(z, axis=1), labels, head)


def of_sigmoids(p, labels, head):
    return p if head == "parent" else p[:, labels]


def of_one_sigmoid(p, labels, head):
    both = np.c_[1 - p, p]
    if head == "other":
        return np.c_[both[:, labels], 1 - both[:, labels]]
    return p if head == "parent" else both[:, labels]


ROWS = [
    *[("softmax", 4, of_softmax, h, ls) for h in ("parent", "labels", "other", "binary")
      for ls in ([1, 3], [0, 1, 2])],
    *[("softmax", 4, of_softmax, h, [2]) for h in ("parent", "other", "binary")],
    ("softmax", 4, of_softmax, "labels", [0, 1, 2, 3]),
    *[(None, 4, of_logits, h, ls) for h in ("parent", "labels", "other", "binary")
      for ls in ([1, 3], [2])],
    *[("sigmoid", 4, of_sigmoids, h, ls) for h in ("parent", "labels") for ls in ([1, 3], [2])],
    ("sigmoid", 4, of_sigmoids, "binary", [2]),
    *[("sigmoid", 1, of_one_sigmoid, h, [label]) for h in ("parent", "other", "binary")
      for label in (0, 1)],
    ("sigmoid", 1, of_one_sigmoid, "labels", [0, 1]),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [True, False], ids=["sequential", "functional"])
@pytest.mark.parametrize(("activation", "size", "oracle", "head", "labels"), ROWS)
def test_a_head_answers_what_the_parent_says_of_its_labels(
    activation, size, oracle, head, labels, sequential
):
    model = parent(size, activation, sequential=sequential)
    names = NAMES[: max(size, 2)]
    plan = plan_of(model, labels, names)
    outputs = np.asarray(model(X), np.float64)
    expected = oracle(outputs, labels, head)
    for small in (nns.cut(model, plan, head=head), nns.mask(model, plan, head=head)):
        np.testing.assert_allclose(small(X), expected, **CLOSE)
    small = nns.cut(model, plan, head=head)
    assert isinstance(small, keras.Sequential) == sequential
    origin = nns.lineage(small)
    chosen = tuple(names[label] for label in labels)
    assert (
        origin.label_names
        == {
            "parent": names,
            "labels": chosen,
            "other": (*chosen, "other"),
            "binary": (" or ".join(chosen),),
        }[head]
    )
    one = labels[0] if len(labels) == 1 else None
    assert (
        origin.labels
        == {
            "parent": tuple(range(len(names))),
            "labels": tuple(labels),
            "other": (*labels, None),
            "binary": (one,),
        }[head]
    )
    assert (origin.head, origin.output, origin.plan) == (head, "answer", plan)
    assert nns.prove(model, plan, head=head).exact


def test_labels_without_names_are_numbers():
    model = parent(4, "softmax")
    for names in ((), ("only", "three", "names")):
        plan = plan_of(model, [1], names)
        assert nns.lineage(nns.cut(model, plan)).label_names == ("0", "1", "2", "3")
        assert nns.lineage(nns.cut(model, plan, head="other")).label_names == ("1", "other")


@pytest.mark.parametrize(
    ("activation", "size", "head", "labels", "message"),
    [
        ("softmax", 4, "label", [1], "'label'"),
        ("softmax", 4, "labels", [1], r"'bee' alone.*head='binary'"),
        ("softmax", 4, "other", [0, 1, 2, 3], "all 4 labels"),
        ("softmax", 4, "binary", [0, 1, 2, 3], "all 4 labels"),
        ("softmax", 4, "binary", [], "for no label"),
        ("softmax", 3, "labels", [1, 3], r"labels \[1, 3\].*answers 3"),
        ("sigmoid", 4, "other", [1], "head='labels'"),
        ("sigmoid", 4, "binary", [1, 2], "head='labels'"),
        ("sigmoid", 1, "labels", [1], "head='binary'"),
        ("sigmoid", 1, "binary", [0, 1], "always yes"),
        ("sigmoid", 1, "other", [0, 1], "no other"),
        ("sigmoid", 1, "labels", [2], "answers 2"),
        (None, 1, "binary", [0], "head='parent'"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(activation, size, head, labels, message):
    model = parent(size, activation)
    plan = plan_of(model, labels)
    for operate in (nns.cut, nns.mask, nns.prove):
        with pytest.raises(nns.NNSError, match=message):
            operate(model, plan, head=head)


def test_an_output_that_others_read_cannot_be_narrowed():
    inputs = keras.Input((5,))
    answer = L.Dense(4, activation="softmax", name="answer")(L.Dense(6, name="hidden")(inputs))
    again = L.Dense(2, name="again")(answer)
    model = keras.Model(inputs, [answer, again])
    plan = plan_of(model, [1, 2])
    with pytest.raises(nns.errors.SurgeryError, match="used elsewhere"):
        nns.cut(model, plan, head="labels", output="answer")
    first, second = nns.cut(model, plan, head="other", output="answer")(X)
    whole = model(X)
    np.testing.assert_allclose(first, of_softmax(np.array(whole[0]), [1, 2], "other"), **CLOSE)
    np.testing.assert_allclose(second, whole[1], **CLOSE)


def test_of_several_outputs_one_must_be_named():
    inputs = keras.Input((5,))
    hidden = L.Dense(6, name="hidden")(inputs)
    left = L.Dense(3, activation="softmax", name="left")(hidden)
    right = L.Dense(4, activation="softmax", name="right")(hidden)
    model = keras.Model(inputs, {"l": left, "r": right})
    plan = plan_of(model, [1, 2])
    with pytest.raises(nns.errors.PlanError, match=r"\['left', 'right'\]"):
        nns.cut(model, plan, head="binary")
    with pytest.raises(nns.errors.PlanError, match="nowhere"):
        nns.cut(model, plan, head="binary", output="nowhere")
    found, whole = nns.cut(model, plan, head="binary", output="right")(X), model(X)
    np.testing.assert_allclose(found["r"], of_softmax(np.array(whole["r"]), [1, 2], "binary"),
                               **CLOSE)  # fmt: skip
    np.testing.assert_allclose(found["l"], whole["l"], **CLOSE)


@pytest.mark.parametrize("head", ["labels", "other", "binary"])
def test_sums_of_probabilities_are_not_taken_for_logits(head):
    """A subnetwork with a summing head ends in a linear layer, and its answers are no logits."""
    model = parent(4, None)
    first = nns.cut(model, plan_of(model, [0, 1, 3]), head="other")
    names = nns.lineage(first).label_names
    assert names == ("ant", "bee", "dog", "other")
    plan = plan_of(first, [1, 3], names)
    with pytest.raises(nns.errors.SurgeryError, match=r"sums of probabilities.*head='parent'"):
        nns.cut(first, plan, head=head)
    np.testing.assert_allclose(nns.cut(first, plan)(X), first(X), **CLOSE)


def test_a_subnetwork_can_be_a_parent():
    model = parent(4, "softmax")
    first = nns.cut(model, plan_of(model, [0, 1, 3]), head="labels")
    second = nns.cut(first, plan_of(first, [0, 2], nns.lineage(first).label_names), head="other")
    p = of_softmax(np.asarray(model(X)), [0, 1, 3], "labels")
    np.testing.assert_allclose(second(X), of_softmax(p, [0, 2], "other"), **CLOSE)
    assert nns.lineage(second).label_names == ("ant", "dog", "other")


def test_head_layers_find_a_name_that_is_free():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            L.Dense(6, name="other_head"),
            L.Dense(6, name="other_head_2"),
            L.Dense(4, name="probabilities"),
        ]
    )
    small = nns.cut(model, plan_of(model, [1]), head="other")
    assert [layer.name for layer in small.layers][-2:] == ["probabilities_2", "other_head_3"]
    expected = of_softmax(softmax(np.asarray(model(X)), axis=1), [1], "other")
    np.testing.assert_allclose(small(X), expected, **CLOSE)


def upcoming(*kinds):
    """Names that Keras will give to the next operations of these kinds."""
    for kind in kinds:
        number = auto_name(kind).removeprefix(kind).removeprefix("_")
        yield f"{kind}_{int(number or 0) + 1}"


@pytest.mark.parametrize("kinds", [("take", "sum"), ("subtract", "concatenate"), ("cast", "log")])
@pytest.mark.parametrize("verb", ["labels", "other", "binary", "distilled", "composed"])
def test_layers_may_be_called_as_keras_calls_operations(kinds, verb):
    """What verbs put behind a model gives way to its layers."""
    labels = [1] if verb in ("binary", "composed") else [1, 3]
    head = verb if verb in ("labels", "other", "binary") else "binary"
    first, second = upcoming(*kinds)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            L.Dense(6, activation="relu", name=first),
            L.Dense(4, activation="softmax", name=second),
        ]
    )
    if verb == "distilled":
        small = nns.cut(model, plan_of(model, labels), head=head)
        taught = nns.distill(small, model, X, held_out=0, optimizer="sgd").model
        assert [layer.name for layer in taught.layers] == [layer.name for layer in small.layers]
    elif verb == "composed":
        both = [nns.cut(model, plan_of(model, [label]), head=head) for label in (0, 1)]
        assert nns.compose(both).output_shape == (None, 2)
    else:
        assert nns.prove(model, plan_of(model, labels), head=head, samples=X).exact


def per_step(end, *, masked=True):
    """A network that answers every step, and samples for it."""
    read = L.Embedding(9, 5, mask_zero=masked)
    made = L.LSTM(6, return_sequences=True)
    steps = np.random.default_rng(0).integers(0, 9, (7, 5))
    return keras.Sequential([keras.Input((5,)), read, made, *end]), steps


PER_STEP = {
    "a wrapped Dense": lambda: [L.TimeDistributed(L.Dense(4, activation="softmax"))],
    "a wrapped network": lambda: [
        L.TimeDistributed(keras.Sequential([keras.Input((6,)), L.Dense(4, activation="softmax")]))
    ],
    "a wrapped softmax": lambda: [
        L.TimeDistributed(L.Dense(4)),
        L.TimeDistributed(L.Activation("softmax")),
    ],
    "a normalised Dense": lambda: [L.SpectralNormalization(L.Dense(4, activation="softmax"))],
}


@pytest.mark.slow
@pytest.mark.parametrize("end", PER_STEP)
def test_what_a_wrapper_holds_says_what_the_numbers_mean(end):
    # Keras warns that the layer ends a mask.
    model, steps = per_step(PER_STEP[end](), masked=end != "a normalised Dense")
    p = model.predict(steps, verbose=0)
    with pytest.raises(SurgeryError, match="always 1"):
        nns.cut(model, plan_of(model, [1]), head="labels")
    for head in ("binary", "other"):
        small = nns.cut(model, plan_of(model, [1]), head=head)
        answers = small.predict(steps, verbose=0)
        expected = p[..., [1]]
        if head == "other":
            expected = np.concatenate([expected, 1 - expected], axis=-1)
        np.testing.assert_allclose(answers, expected, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["binary", "other"])
def test_a_mask_of_steps_is_none_of_labels(head):
    """Logits become probabilities in a layer of ours, which the mask of steps reaches."""
    model, steps = per_step([L.Dense(4)])
    p = softmax(model.predict(steps, verbose=0), axis=-1)[..., [2]]
    small = nns.cut(model, plan_of(model, [2]), head=head, prove=True)
    expected = p if head == "binary" else np.concatenate([p, 1 - p], axis=-1)
    np.testing.assert_allclose(small.predict(steps, verbose=0), expected, **CLOSE)


def kind_behind(*layers, shape=(5, 6)):
    return trace(keras.Sequential([keras.Input(shape), *layers])).outputs[0].kind


@pytest.mark.parametrize("layer", [L.LSTM, L.GRU])
def test_gates_scale_what_the_activation_of_a_recurrent_layer_gave(layer):
    assert kind_behind(layer(4, activation="softmax")) == "linear"
    assert kind_behind(L.SimpleRNN(4, activation="softmax")) == "softmax"


def test_rows_that_a_reshape_joins_are_no_distribution():
    assert kind_behind(L.Dense(4, activation="softmax"), L.Flatten()) == "linear"
    assert kind_behind(L.Dense(4, activation="sigmoid"), L.Flatten()) == "sigmoid"
    assert kind_behind(L.Dense(4, activation="softmax"), L.Flatten(), shape=(1, 6)) == "softmax"
    assert kind_behind(L.Softmax(axis=1)) == "linear"
    assert kind_behind(L.Dense(4), L.Softmax(axis=2)) == "softmax"


def test_labels_that_nothing_renormalises_are_refused():
    """The mean of softmaxes: of one label alone each of them would be 1."""
    model, _ = per_step([L.Dense(4, activation="softmax"), L.GlobalAveragePooling1D()])
    for labels in ([1], [1, 3]):
        with pytest.raises(SurgeryError, match="A softmax runs over"):
            nns.cut(model, plan_of(model, labels), head="labels")


def test_the_parent_is_not_changed():
    model = parent(4, None)
    before, layers = model.get_weights(), list(model.layers)
    for head in ("parent", "labels", "other", "binary"):
        nns.cut(model, plan_of(model, [1]), head=head)
    assert model.layers == layers
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
