"""Bundles: what is stored comes back bit for bit, and damage is found.

That it does so of every layer type is in `tests/keras_nns/graph/test_rules.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import inputs_of, randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as L
from safetensors import safe_open
from safetensors.numpy import save_file

from keras_nns.bundles import kept_rows
from keras_nns.bundles.archive import Bundle
from keras_nns.bundles.kept_rows import VALUES
from keras_nns.bundles.storing import restore, store
from keras_nns.errors import FileError, PlanError, SelectionError, SurgeryError
from keras_nns.graph.tracing import trace
from keras_nns.observation.streaming import observe
from keras_nns.plans.kept_units import Plan, union
from keras_nns.selection.choosing import select
from keras_nns.surgery.cutting import cut, mask
from keras_nns.surgery.lineage import lineage

# TensorFlow's tensors under numpy 2, when Keras writes or quantises weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

UNITS = 12


def plan_of(model, share, seed, label=0):
    """Keep about a share of every group's units, one at least."""
    graph = trace(model)
    random = np.random.default_rng(seed)
    groups = graph.layout.prunable
    kept = {
        g.name: tuple(random.permutation(g.size)[: max(1, round(share * g.size))]) for g in groups
    }
    return Plan(graph.fingerprint, {g.name: g.size for g in groups}, kept, labels=(label,))


def two_hidden():
    return keras.Sequential(
        [
            keras.Input((7,)),
            L.Dense(UNITS, activation="relu", name="first"),
            L.Dense(UNITS, activation="tanh", name="second"),
            L.Dense(4, activation="softmax", name="answer"),
        ]
    )


def residual():
    start = keras.Input((8, 8, 2))
    x = skip = L.Conv2D(6, 3, padding="same", activation="relu", name="stem")(start)
    x = L.Conv2D(5, 3, padding="same", use_bias=False, name="inner")(x)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(6, 3, padding="same", name="outer")(x)
    x = L.Flatten()(L.ReLU()(L.Add()([x, skip])))
    return keras.Model(start, L.Dense(4, activation="softmax", name="answer")(x))


def same_weights(one, other):
    pairs = list(zip(one.weights, other.weights, strict=True))
    assert pairs
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a.numpy()), np.asarray(b.numpy()), err_msg=a.path)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return randomise(two_hidden())


@pytest.fixture(scope="module")
def plans(model):
    return {name: plan_of(model, 0.3, seed, seed) for seed, name in enumerate("abc")}


@pytest.fixture
def bundle(model, plans, tmp_path):
    return store(model, plans, tmp_path / "abc.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("build", [two_hidden, residual])
def test_the_full_size_with_zeros_answers_what_the_small_model_and_the_mask_answer(build, tmp_path):
    model = randomise(build())
    plan = plan_of(model, 0.5, 3)
    bundle = store(model, plan, tmp_path / "one.safetensors")
    full = restore(bundle, bundle.names, full=True)
    assert [v.shape for v in full.weights] == [v.shape for v in model.weights]
    x = inputs_of(model, 9)
    expected = mask(model, plan)(x).numpy()
    np.testing.assert_allclose(full(x).numpy(), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(restore(bundle, "0")(x).numpy(), expected, rtol=0, atol=1e-5)


def test_weights_are_the_parents_rows_and_zeros_elsewhere(model, plans, bundle):
    first, second = plans["a"].kept["first"], plans["a"].kept["second"]
    kernel = model.get_layer("second").kernel.numpy()
    small, full = bundle.weights("a"), bundle.weights("a", full=True)
    np.testing.assert_array_equal(small["second/kernel"], kernel[np.ix_(first, second)])
    by_hand = np.zeros_like(kernel)
    for i in first:
        for j in second:
            by_hand[i, j] = kernel[i, j]
    np.testing.assert_array_equal(full["second/kernel"], by_hand)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations("abc"), count=st.integers(1, 3))
def test_integration_in_any_order_gives_the_union(order, count, model, plans, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "orders.safetensors"
    bundle = Bundle.open(path) if path.exists() else store(model, plans, path)
    chosen = order[:count]
    step = plans[chosen[0]]
    for name in chosen[1:]:
        step = bundle.plan([step, name])
    assert step == union([plans[name] for name in chosen])
    stepwise, at_once = bundle.weights(step), bundle.weights(sorted(chosen))
    for name, value in stepwise.items():
        np.testing.assert_array_equal(value, at_once[name])
    kept = step.kept["first"]
    np.testing.assert_array_equal(
        stepwise["first/kernel"], model.get_layer("first").kernel.numpy()[:, kept]
    )


def test_set_algebra_of_stored_plans_can_be_built(model, plans, bundle):
    rest = (plans["a"] | plans["b"]) - plans["c"]
    same_weights(restore(bundle, rest), cut(model, rest))


def test_shared_rows_are_stored_once(model, plans, bundle, tmp_path):
    together = union(plans.values())
    with safe_open(bundle.path, framework="numpy") as stream:
        rows = stream.get_slice("first/kernel").get_shape()[0]
    assert rows == len(together.kept["first"])
    assert rows < sum(len(plan.kept["first"]) for plan in plans.values())


def test_a_bundle_remembers_what_its_plans_are_for(plans, bundle):
    again = Bundle.open(bundle.path)
    assert dict(again.plans) == plans
    assert again.names == ("a", "b", "c")
    small = restore(again, "b")
    assert lineage(small).plan == plans["b"]
    assert lineage(small).parent == again.parent


def test_heads(model, plans, bundle):
    x = inputs_of(model, 5)
    ours, cuts = restore(bundle, "b", head="binary"), cut(model, plans["b"], head="binary")
    np.testing.assert_array_equal(ours(x).numpy(), cuts(x).numpy())
    with pytest.raises(SelectionError, match="full size"):
        restore(bundle, "b", head="binary", full=True)


def test_cut_models_are_stored_as_their_plans(model, plans, tmp_path):
    small = cut(model, plans["a"], head="binary")
    bundle = store(model, {"yes": small}, tmp_path / "cut.safetensors")
    assert bundle.plans["yes"] == plans["a"]
    small.layers[0].kernel.assign_add(small.layers[0].kernel * 0.5)
    with pytest.raises(SelectionError, match="'yes' was trained or repaired"):
        store(model, {"yes": small}, tmp_path / "repaired.safetensors")


def test_smaller_numbers_are_as_near_as_their_type_allows(model, plans, tmp_path):
    exact = store(model, plans, tmp_path / "exact.safetensors").weights("a")
    half = store(model, plans, tmp_path / "half.safetensors", values="float16").weights("a")
    byte = store(model, plans, tmp_path / "byte.safetensors", values="int8").weights("a")
    for name, value in exact.items():
        assert half[name].dtype == byte[name].dtype == np.float32
        if value.ndim < 2:
            np.testing.assert_array_equal(half[name], value)
            np.testing.assert_array_equal(byte[name], value)
            continue
        np.testing.assert_array_equal(half[name], value.astype(np.float16).astype(np.float32))
        # Half a step of the row's scale, which is at most the largest number by 127.
        assert np.abs(byte[name] - value).max() <= 0.5 * np.abs(value).max() / 127 * 1.2 + 1e-6
        assert not np.array_equal(byte[name], value)


def test_int8_has_one_scale_for_each_row(model, tmp_path):
    parent = randomise(two_hidden())
    kernel = parent.get_layer("first").kernel
    sizes = 10.0 ** np.arange(UNITS)
    kernel.assign(kernel.numpy() * sizes)
    plan = plan_of(parent, 0.6, 0)
    found = store(parent, plan, tmp_path / "b.safetensors", values="int8").weights(plan)
    value = kernel.numpy()[:, plan.kept["first"]]
    step = np.abs(value).max(axis=0) / 127
    assert (np.abs(found["first/kernel"] - value) <= 0.501 * step).all()


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    parent = randomise(two_hidden())
    kernel = parent.get_layer("first").kernel
    kernel.assign(kernel.numpy() * 1e6)
    with pytest.raises(SurgeryError, match=r"first/kernel.*float16 does not reach.*exact"):
        store(parent, plan_of(parent, 1.0, 0), tmp_path / "h.safetensors", values="float16")
    kernel.assign(kernel.numpy() * np.nan)
    with pytest.raises(SurgeryError, match=r"first/kernel.*NaN or infinity"):
        store(parent, plan_of(parent, 1.0, 0), tmp_path / "i.safetensors", values="int8")
    assert not list(tmp_path.iterdir())


def test_lower_precision_models_keep_their_bits(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    try:
        parent = randomise(two_hidden())
    finally:
        keras.config.set_dtype_policy("float32")
    plan = plan_of(parent, 0.5, 0)
    same_weights(restore(store(parent, plan, tmp_path / "b.safetensors"), "0"), cut(parent, plan))


@pytest.mark.slow
def test_weights_are_read_without_keras_or_tensorflow(bundle):
    code = (
        "import sys; from keras_nns.bundles.archive import Bundle; "
        f"w = Bundle.open({bundle.path!r}).weights('a'); "
        "assert w['first/kernel'].shape[0] == 7; "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_of_the_parent_changes(model, plans, tmp_path):
    before = [v.numpy().copy() for v in model.weights]
    config, nodes = repr(model.get_config()), [len(x._outbound_nodes) for x in model.layers]
    restore(store(model, plans, tmp_path / "x.safetensors"), "a")
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert repr(model.get_config()) == config
    assert [len(x._outbound_nodes) for x in model.layers] == nodes


# Damage -------------------------------------------------------------------------------------------


def everything(path):
    """Read all that a bundle holds."""
    bundle = Bundle.open(path)
    bundle.verify()
    return dict(bundle.plans), bundle.architecture, bundle.weights(bundle.names)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_found_or_harmless(data, model, plans, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    values = data.draw(st.sampled_from(VALUES))
    whole = folder / f"whole_{values}.safetensors"
    if not whole.exists():
        store(model, plans, whole, values=values)
    content = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes(content)
    try:
        found = everything(damaged)
    except FileError as error:
        assert str(damaged) in str(error)
        return
    expected = everything(whole)
    assert found[:2] == expected[:2]
    for name, value in expected[2].items():
        np.testing.assert_array_equal(found[2][name], value)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 0.9999])
def test_a_file_cut_short_is_refused(bundle, share, tmp_path):
    content = Path(bundle.path).read_bytes()
    short = tmp_path / "short.safetensors"
    short.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileError, match=r"short\.safetensors.*damaged, cut short"):
        Bundle.open(short)


def test_damage_in_one_label_leaves_the_others_readable(model, tmp_path):
    graph = trace(model)
    sizes = {g.name: g.size for g in graph.layout.prunable}
    every = {
        str(i): Plan(
            graph.fingerprint, sizes, dict.fromkeys(sizes, (3 * i, 3 * i + 1)), labels=(i,)
        )
        for i in range(3)
    }
    bundle = store(model, every, tmp_path / "three.safetensors")
    row = np.ascontiguousarray(model.get_layer("first").kernel.numpy()[:, 4]).tobytes()
    content = Path(bundle.path).read_bytes()
    assert content.count(row) == 1
    Path(bundle.path).write_bytes(content.replace(row, bytes(len(row))))
    same_weights(restore(bundle, "0"), cut(model, every["0"]))
    with pytest.raises(FileError, match=r"damaged: a checksum of 'first/kernel'"):
        bundle.weights("1")
    with pytest.raises(FileError, match="checksum"):
        bundle.verify()


def test_foreign_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": np.zeros(3)}, foreign)
    with pytest.raises(FileError, match=r"foreign.*Expected a keras_nns.bundle file"):
        Bundle.open(foreign)
    foreign.write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(FileError, match=r"foreign.*not a keras_nns.bundle"):
        Bundle.open(foreign)
    with pytest.raises(FileError, match=r"Cannot read .*missing\.safetensors.*No such file"):
        Bundle.open(tmp_path / "missing.safetensors")
    with pytest.raises(FileError, match="Cannot read"):
        Bundle.open(tmp_path)


def test_a_bundle_stays_as_it_was_opened(model, plans, bundle):
    expected = bundle.weights("b")
    store(model, plans["a"], bundle.path, overwrite=True)
    for name, value in bundle.weights("b").items():
        np.testing.assert_array_equal(value, expected[name])
    assert Bundle.open(bundle.path).names == ("0",)


# Wrong use ----------------------------------------------------------------------------------------


def test_wrong_use_is_refused_and_leaves_no_file(model, plans, bundle, tmp_path):
    other = randomise(two_hidden(), seed=5)
    path = tmp_path / "new.safetensors"
    with pytest.raises(PlanError, match="'a' is of another model"):
        store(other, plans, path)
    with pytest.raises(SelectionError, match="no subnetwork to store"):
        store(model, [], path)
    with pytest.raises(SelectionError, match=r"would be named \['0'\]"):
        store(model, [plans["a"], plans["a"]], path)
    with pytest.raises(SelectionError, match="'x' must be a Plan"):
        store(model, {"x": model}, path)
    with pytest.raises(SelectionError, match="Expected `values`"):
        store(model, plans, path, values="int4")
    with pytest.raises(FileError, match=r"must end in `\.safetensors`"):
        store(model, plans, tmp_path / "new.npz")
    with pytest.raises(FileError, match="already exists"):
        store(model, plans, bundle.path)
    empty = Plan(plans["a"].fingerprint, plans["a"].sizes, {"first": (), "second": (1,)})
    with pytest.raises(PlanError, match="empties 'first'"):
        store(model, {"x": empty}, path)
    assert not path.exists()
    with pytest.raises(SelectionError, match="no subnetwork 'z'"):
        restore(bundle, "z")
    with pytest.raises(SelectionError, match="No subnetwork was named"):
        bundle.weights([])
    with pytest.raises(PlanError, match="another parent"):
        bundle.weights(plan_of(other, 0.5, 0))
    with pytest.raises(PlanError, match="no subnetwork in"):
        restore(bundle, plan_of(model, 1.0, 0))


def test_a_vocabulary_is_refused(tmp_path):
    words = keras.Input((), dtype="string")
    lookup = L.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    x = L.Dense(5, activation="relu", name="hidden")(lookup(words))
    parent = keras.Model(words, L.Dense(3, name="answer")(x))
    with pytest.raises(SurgeryError, match="vocabulary"):
        store(parent, plan_of(parent, 0.5, 0), tmp_path / "words.safetensors")


@pytest.mark.slow
def test_what_was_seen_is_stored_once_and_still_known(model, tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 7)).astype("float32")
    activity = observe(model, x, np.arange(300) % 4, verbose=False)
    plans = select(activity, "each", score="mean_activation")
    assert all(plan.seen is not None for plan in plans)
    one = store(model, plans[:1], tmp_path / "one.safetensors")
    four = store(model, plans, tmp_path / "four.safetensors")
    found = [dict(Bundle.open(bundle.path).plans) for bundle in (one, four)]
    for plan, again in zip(plans, found[1].values(), strict=True):
        np.testing.assert_array_equal(again.seen.hashes, plan.seen.hashes)
        np.testing.assert_array_equal(again.seen.counts, plan.seen.counts)
    assert found[0]["0"] == plans[0] and found[0]["0"].seen.samples == 300
    # Three plans more, and their rows, take less room than one sketch.
    sizes = [Path(bundle.path).stat().st_size for bundle in (one, four)]
    assert sizes[1] - sizes[0] < plans[0].seen.hashes.nbytes


MADE = {
    "no version": lambda header: header.pop("version"),
    "no weights": lambda header: header.pop("weights"),
    "weights of another type": lambda header: header.update(weights=3),
    "a weight of nothing": lambda header: header.update(weights=[{}]),
    "no content": lambda header: header.pop("content"),
    "no plans": lambda header: header["content"].pop("plans"),
    "plans of another type": lambda header: header["content"].update(plans=[1]),
    "starts of another type": lambda header: header["content"].update(starts={"first": "a"}),
    "a layout of another type": lambda header: header["content"].update(layout={"a": 1}),
    "units without an end": lambda header: header.update(units=2**60),
    "a list": lambda header: [header],
}


@pytest.mark.parametrize("case", MADE)
def test_a_header_made_by_hand_is_one_error(bundle, tmp_path, case):
    """Its checksum is right: whoever writes it may write anything."""
    with safe_open(bundle.path, framework="numpy") as stream:
        metadata = stream.metadata()
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"])
    found = MADE[case](header)
    text = json.dumps(found if isinstance(found, list) and case == "a list" else header)
    digest = kept_rows._digest(text, tensors[kept_rows._AXES], tensors[kept_rows._CHECKSUMS])
    path = tmp_path / "made.safetensors"
    save_file(tensors, path, {**metadata, "header": text, "digest": digest})
    with pytest.raises(FileError, match=r"made\.safetensors"):
        opened = Bundle.open(path)
        for name in opened.plans:
            opened.weights(name)
        restore(opened, list(opened.plans))
