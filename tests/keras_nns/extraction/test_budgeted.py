"""Extraction to a budget: measured again by other means, and every wrong use."""

from __future__ import annotations

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
from clouds import LABELS, clouds, trained
from keras import layers as L

import keras_nns as nns
import tflite_export
from keras_nns import plots
from keras_nns.cli import main
from keras_nns.extraction import meters, networks, observed, sizes
from keras_nns.extraction.networks import Judged
from keras_nns.extraction.tasks import set_task
from keras_nns.graph.estimates import Estimates
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import trace, weights_digest
from keras_nns.selection.ranking import Ranking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    # Its weights are drawn: what is asked of it are sizes.
    pytest.mark.filterwarnings("ignore:Model 'residual' answers this data as by chance"),
]
RNG = np.random.default_rng(1)
X, Y = clouds()


@pytest.fixture(scope="module")
def model():
    return trained(X, Y)


@pytest.fixture(scope="module")
def residual():
    start = keras.Input((8, 8, 2))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(start)
    x = short = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(12, 3, padding="same", activation="relu", name="inside")(x)
    x = L.Conv2D(8, 3, padding="same", name="branch")(x)
    x = L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([x, short])))
    built = keras.Model(start, L.Dense(4, activation="softmax", name="answer")(x), name="residual")
    rng = np.random.default_rng(2)
    for variable in built.trainable_variables:
        variable.assign(rng.normal(0.2, 0.4, variable.shape))
    return built


def pictures(count=160):
    rng = np.random.default_rng(4)
    y = rng.integers(0, 4, count)
    x = rng.normal(0, 0.3, (count, 8, 8, 2))
    x[..., 0] += (y[:, None, None] % 2) * 2
    x[..., 1] += (y[:, None, None] // 2) * 2
    return x.astype("float32"), y


# To the budget ----------------------------------------------------------------------------------


def size_of(model, unit):
    if unit == "parameters":
        return sum(int(np.prod(v.shape)) for v in model.weights)
    if unit == "macs":
        kernels = [layer.kernel.shape for layer in model.layers if isinstance(layer, L.Dense)]
        return sum(a * b for a, b in kernels)
    return len(shipped(model))


def shipped(model):
    """The file that people get: its answers named, and the record of where it was cut from."""
    record = nns.lineage(model)
    if record is None:
        return tflite_export.convert(model)
    plan = dataclasses.replace(record.plan, seen=None)
    files = {"keras_nns.json": dataclasses.replace(record, plan=plan).to_json()}
    return tflite_export.convert(model, labels=record.label_names, files=files)


@pytest.mark.parametrize(
    ("unit", "limit", "labels"),
    [
        ("bytes", 5000, 3),
        ("bytes", 8000, [1, 3]),
        ("parameters", 700, [1, 3]),
        ("macs", 400, 3),
    ],
)
def test_as_large_as_fits_and_never_over(model, unit, limit, labels):
    found = nns.extract(model, (X, Y), labels=labels, budget=nns.Budget(**{unit: limit}))
    assert found.cost == size_of(found.model, unit)
    assert 0.95 * limit <= found.cost <= limit
    assert found.least < found.cost
    assert found.exports <= (4 if unit == "bytes" else 0)
    assert nns.lineage(found.model).head == ("binary" if labels == 3 else "other")
    assert nns.lineage(found.model).plan == found.plan
    assert type(found.model) is keras.Sequential
    assert f"of a budget of {limit:,}" in str(found)
    assert json.loads(json.dumps(found.to_json()))["costs"] == {unit: found.cost}
    assert set(found.seconds) == {"observe", "score", "search", "export", "repair", "judge"}
    assert (found.seconds["export"] > 0) == (unit == "bytes")


def test_a_file_of_a_model_with_branches_and_batch_norms(residual):
    data = pictures()
    whole = len(tflite_export.convert(residual))
    limit = round(0.75 * whole)
    found = nns.extract(
        residual, data, labels=[0, 2], head="parent", budget=nns.Budget(bytes=limit)
    )
    assert len(shipped(found.model)) == found.cost
    assert 0.95 * limit <= found.cost <= limit


def test_memory_and_time(residual, monkeypatch):
    data = pictures()
    whole = tflite_export.anatomy(tflite_export.convert(residual)).activation_bytes
    budget = nns.Budget(activation_memory=round(0.6 * whole))
    found = nns.extract(
        residual, data, labels=1, budget=budget, repair=False, score=nns.scores.contrast
    )
    alive = tflite_export.anatomy(tflite_export.convert(found.model)).activation_bytes
    assert 0.7 * budget.limit <= alive <= budget.limit
    # A clock of our own: time is what the weights are.
    monkeypatch.setattr(
        meters, "milliseconds", lambda flat: 0.1 + 1e-3 * tflite_export.anatomy(flat).parameters
    )
    found = nns.extract(residual, data, labels=1, budget=nns.Budget(latency_ms=0.8), repair=False)
    flat = tflite_export.convert(found.model)
    assert found.cost == 0.1 + 1e-3 * tflite_export.anatomy(flat).parameters
    assert 0.6 <= found.cost <= 0.8


def test_time_is_measured_on_this_machine(model):
    found = nns.extract(model, (X, Y), labels=1, budget=nns.Budget(latency_ms=1000.0), repair=False)
    assert 0 < found.cost < 1000
    assert {name: len(units) for name, units in found.plan.kept.items()} == found.plan.sizes


def test_the_smallest_that_loses_no_more(model, monkeypatch):
    monkeypatch.setattr(sizes, "_HALVINGS", 3)
    found = nns.extract(model, (X, Y), labels=3, budget=nns.Budget(drop=0.02))
    before, after = found.comparison.before.rows[0], found.comparison.after.rows[0]
    assert found.cost == pytest.approx(before.balanced_accuracy - after.balanced_accuracy)
    assert found.cost <= 0.02
    assert sum(map(len, found.plan.kept.values())) < 36


def test_repair_that_costs_more_than_the_drop_is_left_out(model, monkeypatch):
    def spoilt(parent, network, steps):
        network.model.set_weights([0 * weight for weight in network.model.get_weights()])
        return network

    monkeypatch.setattr(networks, "_repaired", spoilt)
    monkeypatch.setattr(sizes, "_HALVINGS", 2)
    asked = {"labels": 3, "score": nns.scores.contrast, "budget": nns.Budget(drop=0.02)}
    found = nns.extract(model, (X, Y), **asked)
    assert found.cost <= 0.02
    np.testing.assert_array_equal(
        np.asarray(found.model(X)), np.asarray(nns.cut(model, found.plan, head="binary")(X))
    )
    monkeypatch.setattr(Judged, "drop", 0.3)
    with pytest.raises(
        nns.errors.SelectionError, match=r"cannot be had.*loses 0.3.*nearest.*Budget\(drop=0.3\)"
    ):
        nns.extract(model, (X, Y), **asked)


def test_what_is_more_than_enough_keeps_everything(model):
    found = nns.extract(model, (X, Y), labels=[0, 1], budget=nns.Budget(parameters=10**6))
    assert {name: len(units) for name, units in found.plan.kept.items()} == found.plan.sizes


# How it comes about -----------------------------------------------------------------------------


def test_one_observation_and_nothing_of_the_users_changes(model, monkeypatch):
    seen = []
    monkeypatch.setattr(observed, "observe", lambda *a, **k: seen.append(1) or nns.observe(*a, **k))
    digest, settings, x = weights_digest(model), model.get_compile_config(), X.copy()
    first = nns.extract(model, (X, Y), labels=3, budget=nns.Budget(bytes=6000))
    assert len(seen) == 1
    again = nns.extract(model, X, Y, labels=[3], budget=nns.Budget(bytes=6000))
    assert weights_digest(first.model) == weights_digest(again.model)
    assert (weights_digest(model), model.get_compile_config()) == (digest, settings)
    np.testing.assert_array_equal(x, X)
    assert nns.evaluate(first.model, *clouds(300, seed=9)).rows[0].balanced_accuracy > 0.85


def test_repair_and_distillation_as_asked(model):
    budget = nns.Budget(parameters=300)
    bare = nns.extract(model, (X, Y), labels=3, budget=budget, repair=False)
    assert bare.repaired is None and bare.trained is None
    np.testing.assert_array_equal(
        np.asarray(bare.model(X)), np.asarray(nns.cut(model, bare.plan, head="binary")(X))
    )
    taught = nns.extract(model, (X, Y), labels=3, budget=budget, distill_epochs=2)
    assert taught.trained.samples + taught.trained.held_out == len(X)
    assert taught.trained.held_out == taught.comparison.after.samples == taught.repaired.held_out
    assert taught.cost <= 300
    only = nns.extract(model, (X, Y), labels=3, budget=budget, repair=nns.steps.least_squares())
    assert {gain.step for gain in only.repaired.gains} == {"least_squares()"}


def test_a_labels_head_is_chosen_for_on_its_own_samples(model):
    options = {"held_out": 0.2, "seed": 0, "batch_size": 256, "label_names": None}
    division = observed.open_division(model, X, Y, **options)

    def order(head, score=None):
        task = set_task(model, [1, 3], label_names=division.label_names, head=head, output=None)
        parent = observed.observe_parent(task, division, batch_size=256)
        scored = observed.score_units(parent, task, score, None)
        cost = Estimates(task.graph).of
        return observed.rank_units(
            parent, task, scored, lambda plan: cost("macs", task.keep(plan))
        ).order

    rows = {row.tobytes() for batch in division.to_fit() for row in batch.inputs}
    own = np.isin(Y, [1, 3]) & np.array([row.tobytes() in rows for row in X])
    score = nns.scores.reconstruction(model, (X[own], Y[own]), labels=[1, 3], alone=True)
    assert order("labels") == order("labels", score)
    assert order("labels") != order("other")


def test_a_score_and_a_rule_of_ones_own(model):
    """By ζ, every plan is the paper's rule, filled up with what still fits."""
    found = nns.extract(
        model, (X, Y), labels=[1, 3], budget=nns.Budget(parameters=500),
        score=nns.scores.mean_activation, balance="zeta", repair=False,
    )  # fmt: skip
    plan = found.plan
    scores = nns.scores.mean_activation(found.activity)
    shares = {
        name: (values[[1, 3]] / values[[1, 3]].max(axis=1, keepdims=True)).max(axis=0)
        for name, values in scores.items()
    }
    zeta = max(
        share[sorted(set(range(len(share))) - set(plan.kept[name]))].max(initial=0)
        for name, share in shares.items()
    )
    paper = nns.select(found.activity, [1, 3], keep=nns.above(min(1.0, zeta + 1e-9)))
    assert all(set(paper.kept[name]) <= set(plan.kept[name]) for name in plan.kept)
    assert plan.choices[0].score == "mean_activation"


def test_plans_are_nested_and_filled_up(model):
    activity = nns.observe(model, (X, Y), verbose=False)
    ranking = Ranking(
        activity, nns.scores.contrast(activity), (1, 3), name="contrast", balance="share"
    )
    sizes = [ranking.first(n) for n in range(len(ranking.order) + 1)]
    assert all(a & b == a for a, b in itertools.pairwise(sizes))
    assert {name: len(units) for name, units in sizes[0].kept.items()} == {"one": 1, "two": 1}
    assert {name: len(units) for name, units in sizes[-1].kept.items()} == {"one": 48, "two": 24}
    cost = {"one": 7, "two": 2}

    def total(plan):
        return sum(cost[name] * len(units) for name, units in plan.kept.items())

    for limit in range(9, 400, 13):
        plan = ranking.fit(total, limit)
        assert total(plan) <= limit
        # Not even the cheapest unit would still fit.
        assert len(plan.kept["two"]) == 24 or total(plan) + 2 > limit


def test_units_are_set_against_what_they_cost(model):
    """By hand: of all groups, always the units that lose least for what leaving them out saves."""
    activity = nns.observe(model, (X, Y), verbose=False)
    estimates, graph = Estimates(trace(model)), trace(model)

    def cost(plan):
        return estimates.of("parameters", graph.keep(plan))

    score = nns.scores.reconstruction(model, (X, Y), labels=[1, 3])(activity)
    ranking = Ranking(activity, score, (1, 3), name="it", balance="cost", cost=cost)
    kept = {name: np.ones(values.shape[1], dtype=bool) for name, values in score.items()}
    gone = []
    while any(mask.sum() > 1 for mask in kept.values()):
        prices = {}
        for name, mask in kept.items():
            if mask.sum() == 1:
                continue
            unit = int(np.where(mask, score[name][1], np.inf).argmin())
            before = cost(ranking.plan(kept))
            mask[unit] = False
            saved = before - cost(ranking.plan(kept))
            mask[unit] = True
            prices[name, unit] = score[name][1][unit] / saved
        name, unit = min(prices, key=prices.get)
        kept[name][unit] = False
        gone.append((name, unit))
    assert ranking.order == gone[::-1]
    for limit in (100, 500, 1500):
        assert cost(ranking.fit(cost, limit)) <= limit
    share = Ranking(activity, score, (1, 3), name="it", balance="share")
    assert share.order != ranking.order


def test_estimates_are_what_a_cut_costs(model, residual):
    for parent, data in ((model, (X, Y)), (residual, pictures())):
        estimates = Estimates(trace(parent))
        graph = trace(parent)
        activity = nns.observe(parent, data, verbose=False)
        for share in (0.3, 0.7, 1.0):
            plan = nns.select(activity, 1, score=nns.scores.contrast, keep=nns.fraction(share))
            small, keep = nns.cut(parent, plan), graph.keep(plan)
            assert estimates.of("parameters", keep) == nns.inspect(small).parameters
            assert estimates.of("macs", keep) == nns.inspect(small).multiply_adds
        everything = Keep(np.ones(graph.unit_count, dtype=bool))
        assert estimates.of("bytes", everything) <= len(tflite_export.convert(parent))


# Sweep ------------------------------------------------------------------------------------------


def test_a_sweep_is_the_whole_trade_off(model, tmp_path):
    found = nns.sweep(model, (X, Y), labels=3, sizes=3)
    sizes = [point.costs.parameters for point in found.points]
    assert sizes == sorted(sizes) and len(sizes) == 3
    assert sizes[-1] > 10 * sizes[0]
    for point in found.points:
        assert point.costs.parameters == size_of(point.model, "parameters")
        assert point.costs.tflite_bytes == size_of(point.model, "bytes")
        beaten = any(
            other.worth >= point.worth and other.costs.parameters < point.costs.parameters
            for other in found.points
        )
        assert point.on_front != beaten
    assert found.front
    data = json.loads(json.dumps(found.to_json()))
    assert [point["on_front"] for point in data["points"]] == [p.on_front for p in found.points]
    assert "front" in str(found)
    plots.save(plots.trade_off(found), tmp_path / "trade_off.png")
    chosen = nns.sweep(
        model,
        (X, Y),
        labels=3,
        sizes=[0.5, 0.1],
        unit="bytes",
        repair=False,
        score=nns.scores.contrast,
    )
    assert len(chosen.points) == 2
    whole = len(tflite_export.convert(model))
    assert chosen.size(chosen.parent_costs) == whole


@pytest.mark.parametrize("sizes", [0, True, [], [0.0], [2.0], [[0.1]]])
def test_sizes_that_make_no_sense(model, sizes):
    with pytest.raises(nns.errors.SelectionError, match="sizes"):
        nns.sweep(model, (X, Y), labels=3, sizes=sizes)


# Wrong use --------------------------------------------------------------------------------------


def test_a_budget_below_one_unit_in_every_layer(model):
    for unit in ("bytes", "macs"):
        with pytest.raises(
            nns.errors.SelectionError, match="below one unit in every layer"
        ) as told:
            nns.extract(
                model, (X, Y), labels=3, budget=nns.Budget(**{unit: 10}), score=nns.scores.contrast
            )
        nearest = eval(
            str(told.value).rsplit("nearest possible is ", 1)[1][:-1], {"Budget": nns.Budget}
        )
        found = nns.extract(model, (X, Y), labels=3, budget=nearest, score=nns.scores.contrast)
        # How long the record in a file is follows from the scores, which come later.
        assert found.cost <= nearest.limit == found.least <= 1.05 * found.cost
        assert unit == "bytes" or found.cost == found.least
        assert all(len(units) == 1 for units in found.plan.kept.values())


def test_what_can_be_left_out_counts_for_the_least(residual):
    """By hand: one unit of every layer, and the block that the shortcut goes round left out."""
    asked = {"labels": 1, "repair": False, "score": nns.scores.contrast}
    with pytest.raises(nns.errors.SelectionError, match="without 'inside'") as told:
        nns.extract(residual, pictures(), budget=nns.Budget(parameters=10), **asked)
    # Stem 3·3·2·1, its batch norm 4, the answer 4 + 4, and the binary head 4 + 1.
    assert "Budget(parameters=35)" in str(told.value)
    found = nns.extract(residual, pictures(), budget=nns.Budget(parameters=36), **asked)
    assert found.cost == found.least == found.model.count_params() == 35
    assert found.plan.empty == ("inside",) and "none of 'inside'" in str(found)
    # With both layers of the block, 3·3·1·1 and a bias each.
    whole = nns.extract(residual, pictures(), budget=nns.Budget(parameters=60), **asked)
    assert whole.cost == whole.least == 55


@pytest.fixture(scope="module")
def attentive():
    keras.utils.set_random_seed(3)
    start = keras.Input((6, 4))
    x = L.Dense(8, name="in")(start)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(3, 5, name="attention")(x, x))
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model(start, L.Dense(3, activation="softmax", name="answer")(x), name="attentive")


def steps(count=90):
    y = np.arange(count) % 3
    x = np.random.default_rng(5).normal(0, 0.3, (count, 6, 4))
    x[np.arange(count), :, y] += 1
    return x.astype("float32"), y


def test_dimensions_that_are_not_watched_count_for_the_least(attentive):
    """Keys and values go too where nothing else helps, and it is said; never where it is not."""
    asked = {"labels": 1, "repair": False, "score": nns.scores.contrast}
    # A head of one dimension: three projections 8 + 1 and one of 1·8 + 8.
    least = (4 * 8 + 8) + 3 * 9 + 16 + 16 + (8 * 3 + 3) + (3 + 1)
    with pytest.warns(UserWarning, match="nothing is known: 'attention:key', 'attention:value'"):
        found = nns.extract(attentive, steps(), budget=nns.Budget(parameters=least), **asked)
    assert found.cost == found.model.count_params() == least
    one_head = least + 3 * 4 * 9 + 4 * 8
    found = nns.extract(attentive, steps(), budget=nns.Budget(parameters=one_head + 8), **asked)
    assert found.cost == one_head
    assert "'attention:key', 'attention:value' whole" in found.summary


def test_what_cannot_be_had_is_said_before_the_data_are_gone_over(model, attentive):
    passes = []

    def data():
        passes.append(1)
        yield X, Y

    for budget in (nns.Budget(bytes=100), nns.Budget(parameters=10), nns.Budget(macs=10)):
        with pytest.raises(nns.errors.SelectionError, match="below one unit in every layer"):
            nns.extract(model, data, labels=3, budget=budget)
    # To see how many labels it has, its first batch is read.
    assert len(passes) <= 3


def test_a_network_of_which_nothing_can_be_watched():
    start = keras.Input((6, 4))
    x = L.MultiHeadAttention(2, 3, output_shape=4, name="attention")(start, start)
    x = L.LayerNormalization()(start + x)
    net = keras.Model(start, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(x)))
    only = {"key", "value"}

    def says_little(activity):
        return {
            name: values
            for name, values in nns.scores.contrast(activity).items()
            if name.split(":")[-1] in only
        }

    asked = {"labels": 1, "budget": nns.Budget(parameters=150), "score": says_little}
    with pytest.raises(nns.errors.SelectionError, match="Nothing is known of any unit that could"):
        nns.extract(net, steps(), **asked)


def test_wrong_use(model):
    budget = nns.Budget(bytes=6000)
    with pytest.raises(nns.errors.SelectionError, match="needs its unit"):
        nns.extract(model, (X, Y), labels=3, budget=6000)
    with pytest.raises(nns.errors.DataError, match="needs labels"):
        nns.extract(model, X, labels=3, budget=budget)
    with pytest.raises(nns.errors.DataError, match="held out"):
        nns.extract(model, (X, Y), labels=3, budget=budget, held_out=0)
    with pytest.raises(nns.errors.SelectionError, match="nine"):
        nns.extract(model, (X, Y), labels="nine", budget=budget)
    with pytest.raises(nns.errors.SelectionError, match="balance"):
        nns.extract(model, (X, Y), labels=3, budget=budget, balance="even")
    few = np.concatenate([np.flatnonzero(Y != 3), np.flatnonzero(Y == 3)[:8]])
    with pytest.raises(nns.errors.DataError, match=r"at least 10 samples.*'3'"):
        nns.extract(model, (X[few], Y[few]), labels=3, budget=budget)
    way = [nns.steps.least_squares()]  # As the message says.
    assert nns.extract(model, (X[few], Y[few]), labels=3, budget=budget, repair=way).cost <= 6000
    with pytest.raises(nns.errors.SelectionError, match="`unit`"):
        nns.sweep(model, (X, Y), labels=3, unit="weeks")
    with pytest.raises(nns.errors.DataError, match="read once"):
        nns.extract(model, iter([(X, Y)]), labels=3, budget=budget)


# From a shell -----------------------------------------------------------------------------------


@pytest.fixture
def shop(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nns.save_model(model, "model.keras")
    np.savez("data.npz", x=X, y=np.array([f"kind {i}" for i in Y]))
    return tmp_path


def test_extract_and_sweep_from_a_shell(shop, capsys):
    words = ["extract", "model.keras", "data.npz", "--label", "kind 3", "--no-scale"]
    assert main([*words, "--budget", "6kB", "-o", "three.keras"]) == 0
    shown = capsys.readouterr().out
    assert "of a budget of 6,000" in shown
    small = nns.load_model("three.keras")
    assert nns.lineage(small).label_names == ("kind 3",)
    assert main(["export", "three.keras", "-o", "three.tflite"]) == 0
    assert f"{(shop / 'three.tflite').stat().st_size:,} bytes" in shown
    assert (shop / "three.tflite").stat().st_size <= 6000
    capsys.readouterr()
    assert main([*words, "--budget", "parameters=300", "--json", "-o", "json.keras"]) == 0
    assert json.loads(capsys.readouterr().out)["budget"]["parameters"] == 300
    for budget, message in (("6000", "needs its unit"), ("100B", "nearest possible")):
        assert main([*words, "--budget", budget, "-o", "other.keras"]) == 1
        assert message in capsys.readouterr().err
    for score in ("contrast", "magnitude"):
        bare = [*words, "--score", score, "--balance", "zeta", "--no-repair", "--budget"]
        assert main([*bare, "parameters=300", "-o", f"{score}.keras"]) == 0
        (choice,) = nns.lineage(nns.load_model(f"{score}.keras")).plan.choices
        assert choice.score.startswith(score) and choice.keep == "budget, zeta"
    words[0] = "sweep"
    assert main([*words, "--sizes", "3", "--no-repair", "-o", "found.json"]) == 0
    assert "front" in capsys.readouterr().out
    assert len(json.loads((shop / "found.json").read_text())["points"]) == 3
    assert main([*words, "--sizes", "2", "--no-repair", "-o", "found.png"]) == 0
    assert (shop / "found.png").stat().st_size > 10_000


def test_a_head_that_is_not_refitted_is_said():
    x, y = pictures()
    start = keras.Input((8, 8, 2))
    maps = L.Conv2D(4, 3, name="maps")(L.Conv2D(6, 3, activation="relu", name="hidden")(start))
    mapped = keras.Model(start, L.Softmax()(L.GlobalAveragePooling2D()(maps)), name="mapped")
    with pytest.warns(UserWarning, match="head of 'mapped' is not refitted.*no Dense of its own"):
        found = nns.extract(mapped, (x, y), labels=1, budget="parameters=300", verbose=False)
    assert [gain.step for gain in found.repaired.gains if "head" in gain.step] == []


def test_too_few_samples_for_the_head_name_a_way_that_works():
    x = RNG.normal(size=(40, 12)).astype("float32")
    y = np.arange(40) % LABELS
    model = keras.Sequential(
        [keras.Input((12,)), L.Dense(8, activation="relu"), L.Dense(LABELS, activation="softmax")]
    )
    given = {"labels": 1, "budget": nns.Budget(parameters=100)}
    with pytest.raises(nns.errors.DataError, match=r"repair=\[nns\.steps\.least_squares\(\)\]"):
        nns.extract(model, (x, y), **given)
    small = nns.extract(model, (x, y), repair=[nns.steps.least_squares()], **given)
    assert small.model.count_params() <= 100
