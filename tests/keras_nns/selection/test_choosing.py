"""Selecting: the paper's rule by a plain loop, unions, and what must stay whatever it scores."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_nns as nns
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import LayerActivity
from keras_nns.plans.keep_rules import KeepRule
from keras_nns.plans.units import Fingerprint, Group, Layout, Member

SIZES = {"first": 4, "second": 3}
NAMES = ("cat", "dog", "elk")


def group(name, size, *members, protected=()):
    members = members or (Member(name, tuple(range(size))),)
    return Group(name, size, members, frozenset(protected), ("because",) if protected else ())


def activity_of(means, layout=None, samples=(10, 20, 30)):
    """An activity in which layer `name` has the mean values `means[name]`, `(labels, units)`."""
    samples = np.array(samples)
    layers = {}
    for name, values in means.items():
        total = np.asarray(values, float) * samples[:, None]
        layers[name] = LayerActivity(total=total, magnitude=total)
    layout = layout or Layout(tuple(group(n, s) for n, s in SIZES.items()))
    return Activity(Fingerprint("s", "w"), layout, NAMES, samples, layers, ("mean",))


@st.composite
def activities(draw):
    numbers = st.floats(0, 9).map(lambda v: round(v, 2))
    means = {
        name: [[draw(numbers) for _ in range(size)] for _ in NAMES] for name, size in SIZES.items()
    }
    return activity_of(means)


def papers_rule(activity, label, zeta):
    """Eq. 1, one unit at a time."""
    kept = {}
    for name in SIZES:
        means = [total / activity.samples[label] for total in activity.layers[name].total[label]]
        kept[name] = tuple(i for i, mean in enumerate(means) if mean >= zeta * max(means))
    return kept


@pytest.mark.slow
@given(activities(), st.integers(0, 2), st.sampled_from([0, 0.3, 0.4, 0.5, 1]))
def test_one_label_is_the_papers_equation(activity, label, zeta):
    plan = nns.select(activity, label, keep=nns.above(zeta))
    assert plan.kept == papers_rule(activity, label, zeta)
    assert plan.labels == (label,)
    assert plan.label_names == NAMES
    assert plan.fingerprint == activity.fingerprint
    assert plan.sizes == SIZES


@pytest.mark.slow
@given(activities())
def test_several_labels_are_the_union_of_their_own_plans(activity):
    each = nns.select(activity, "each")
    assert [plan.labels for plan in each] == [(0,), (1,), (2,)]
    for label, plan in enumerate(each):
        assert plan == nns.select(activity, label) == nns.select(activity, NAMES[label])
    assert nns.select(activity, [0, "elk"]) == each[0] | each[2]
    assert nns.select(activity, np.array([2, 0, 0])) == each[0] | each[2]
    assert nns.select(activity, "all") == nns.select(activity) == nns.merge(each)


@pytest.mark.slow
@given(activities(), st.integers(1, 7))
def test_a_global_rule_compares_the_whole_network_and_all_its_labels(activity, k):
    rule = nns.top(k, scope="global")
    plan = nns.select(activity, [0, 2], score="mean_activation", keep=rule, min_units=0)
    best = np.concatenate([activity.magnitude(n)[[0, 2]].max(axis=0) for n in SIZES])
    kept = np.concatenate(
        [np.isin(np.arange(size), plan.kept[name]) for name, size in SIZES.items()]
    )
    assert kept.sum() == k
    if k < 7:
        assert best[kept].min() >= best[~kept].max()


def test_a_global_rule_leaves_every_group_its_least():
    activity = activity_of({"first": np.ones((3, 4)), "second": [[9.0, 8, 7]] * 3})
    plan = nns.select(activity, 0, score="mean_activation", keep=nns.top(2, scope="global"))
    assert plan.kept == {"first": (0,), "second": (0, 1)}
    assert len(nns.select(activity, "each", keep=nns.top(2, scope="global"))) == 3


@pytest.mark.parametrize(("least", "expected"), [(0, 1), (1, 1), (2, 2), (9, 4)])
def test_a_group_keeps_its_least_and_those_are_its_best(least, expected):
    activity = activity_of({"first": [[1.0, 4, 3, 2]] * 3, "second": np.ones((3, 3))})
    plan = nns.select(activity, 1, keep=nns.above(1), min_units=least)
    assert set(plan.kept["first"]) == set(np.argsort([-1.0, -4, -3, -2])[:expected].tolist())


def test_nothing_may_be_kept_when_asked_for():
    activity = activity_of({"first": np.zeros((3, 4)), "second": np.ones((3, 3))})
    rule = KeepRule("none", lambda scores: scores > 5)
    assert nns.select(activity, 0, keep=rule, min_units=0).empty == ("first", "second")
    assert not nns.select(activity, 0, keep=rule).empty


def test_protected_units_and_groups_that_were_not_watched_stay():
    layout = Layout((group("first", 4, protected=[3]), group("second", 3), group("out", 2)))
    plan = nns.select(activity_of({"first": [[9.0, 0, 0, 0]] * 3}, layout), 0, keep=nns.above(0.4))
    assert plan.kept == {"first": (0, 3), "second": (0, 1, 2), "out": (0, 1)}
    assert dict(plan.choices[0].thresholds) == {"first": 9.0}


def test_a_group_that_is_protected_as_a_whole_is_no_part_of_a_plan():
    layout = Layout((group("first", 4), group("second", 3, protected=range(3))))
    means = {"first": np.ones((3, 4)), "second": np.full((3, 3), 99.0)}
    plan = nns.select(activity_of(means, layout), 0, keep=nns.top(2, scope="global"))
    assert plan.kept == {"first": (0, 1)}
    alone = Layout((group("second", 3, protected=range(3)),))
    with pytest.raises(nns.errors.SelectionError, match="no hidden units that can be removed"):
        nns.select(activity_of(means, alone), 0)


@pytest.mark.parametrize("join", ["max", "mean", "sum"])
def test_units_that_no_watched_layer_makes_stay(join):
    """Two layers are concatenated and added to a third: only the first was watched."""
    members = (Member("first", (0, 1, 2)), Member("third", (0, 1, 2, 3, 4)))
    half = Member("second", (3, 4))
    layout = Layout((group("first", 5, *members, half),))

    def score(activity):
        return nns.scores.mean_activation(activity, join=join)

    one = activity_of({"first": [[4.0, 1, 3]] * 3}, layout)
    assert nns.select(one, 0, keep=nns.above(0.5), score=score).kept == {"first": (0, 2, 3, 4)}
    assert nns.select(one, 0, keep=nns.top(1), score=score).kept == {"first": (0, 3, 4)}
    assert nns.select(one, 0, keep=nns.top(1), score=score, min_units=4).kept == {
        "first": (0, 1, 2, 3, 4)
    }
    both = activity_of({"first": [[4.0, 1, 3]] * 3, "second": [[2.0, 8]] * 3}, layout)
    assert nns.select(both, 0, keep=nns.above(0.5), score=score).kept == {"first": (0, 2, 4)}


def test_why_is_remembered():
    activity = activity_of({"first": [[1.0, 4, 3, 2]] * 3, "second": [[1.0, 1, 0]] * 3})
    (choice,) = nns.select(activity, 2, keep=nns.above(0.5)).choices
    assert choice.labels == (2,)
    assert (choice.score, choice.keep) == ("mean_activation", "above(0.5)")
    assert dict(choice.thresholds) == {"first": 2.0, "second": 1.0}
    assert dict(choice.scores) == {"first": (1.0, 4.0, 3.0, 2.0), "second": (1.0, 1.0, 0.0)}


def test_scores_of_very_many_units_are_not_recorded(monkeypatch):
    activity = activity_of({"first": [[1.0, 4, 3, 2]] * 3})
    monkeypatch.setattr("keras_nns.selection.choosing.RECORDED_SCORES", 12)
    assert nns.select(activity, 2).choices[0].scores
    monkeypatch.setattr("keras_nns.selection.choosing.RECORDED_SCORES", 11)
    assert not nns.select(activity, 2).choices[0].scores


def means(activity):
    return nns.scores.mean_activation(activity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "cow"}, "No label 'cow'.*cat, dog, elk"),
        ({"labels": 3}, "No label 3"),
        ({"labels": -1}, "No label -1"),
        ({"labels": True}, "No label True"),
        ({"labels": [0, "cow"]}, "No label 'cow'"),
        ({"labels": []}, "empty"),
        ({"labels": None}, "labels=None"),
        ({"labels": 1.5}, r"labels=1\.5"),
        ({"labels": "elk"}, "No sample of label 'elk'"),
        ({"labels": "all"}, "No sample of label 'elk'"),
        ({"labels": "each"}, "No sample of label 'elk'"),
        ({"labels": 0, "keep": True}, r"`keep`.*True"),
        ({"labels": 0, "score": "mean"}, "`score`.*'mean'"),
        ({"labels": 0, "min_units": -1}, "min_units=-1"),
        ({"labels": 0, "score": lambda a: {"first": np.ones((3, 5))}}, r"shape \(3, 4\)"),
        ({"labels": 0, "score": lambda a: {"first": np.full((3, 4), np.nan)}}, "NaN"),
        ({"labels": 0, "score": lambda a: {"first": np.full((3, 4), np.inf)}}, "infinite"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    activity = activity_of(
        {"first": np.ones((3, 4)), "second": np.ones((3, 3))}, samples=(10, 20, 0)
    )
    with np.errstate(invalid="ignore"), pytest.raises(nns.errors.SelectionError, match=message):
        nns.select(activity, **options)


def test_a_label_without_samples_does_not_disturb_the_others():
    activity = activity_of({"first": np.ones((3, 4))}, samples=(10, 20, 0))
    assert nns.select(activity, [0, 1]).labels == (0, 1)


@pytest.mark.slow
def test_every_layer_of_a_group_keeps_a_unit_where_their_units_differ():
    """Two branches are put behind one another and added to a third: one group of three layers."""
    inputs = keras.Input((4,))
    loud = keras.layers.Dense(3, activation="relu", name="loud")(inputs)
    quiet = keras.layers.Dense(2, activation="relu", name="quiet")(inputs)
    wide = keras.layers.Dense(5, activation="relu", name="wide")(inputs)
    x = keras.layers.Add()([keras.layers.Concatenate()([loud, quiet]), wide])
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.ReLU()(x)))
    activity = nns.observe(model, np.random.default_rng(0).normal(size=(20, 4)), [0, 1] * 10)
    (group,) = activity.layout.prunable
    for best in range(group.size):
        scores = np.zeros((2, group.size))
        scores[:, best] = 1.0
        plan = nns.select(activity, 0, score=lambda _, s=scores: {group.name: s}, keep=nns.top(1))
        nns.cut(model, plan, prove=True)
        assert best in plan.kept[group.name]
        for member in group.members:
            assert set(member.units) & set(plan.kept[group.name])


@pytest.mark.slow
@given(activities(), st.integers(1, 6), st.sampled_from(["layer", "global"]), st.integers(1, 4))
def test_kept_units_are_rounded_up_by_the_best_of_the_rest(activity, multiple, scope, k):
    labels, rule = [0, 2], nns.top(k, scope=scope)
    loud = {"score": "mean_activation", "keep": rule}
    plain = nns.select(activity, labels, **loud)
    plan = nns.select(activity, labels, **loud, multiple_of=multiple)
    scores = {n: v[labels].max(axis=0) for n, v in nns.scores.mean_activation(activity).items()}
    for name, size in SIZES.items():
        before, after = set(plain.kept[name]), set(plan.kept[name])
        assert before <= after
        least = -(-len(before) // multiple) * multiple
        assert len(after) == min(least, size)
        added, out = after - before, set(range(size)) - after
        assert (
            not added
            or not out
            or scores[name][list(added)].min() >= max(scores[name][u] for u in out)
        )
    for each in nns.select(activity, "each", keep=nns.top(k), multiple_of=multiple):
        for name, size in SIZES.items():
            assert len(each.kept[name]) in (size, -(-min(k, size) // multiple) * multiple)


def test_every_layer_of_a_group_is_rounded_up():
    """Two layers lie beside each other in a third: each of the three has a multiple."""
    members = (
        Member("left", (0, 1, 2, 3)), Member("right", (4, 5, 6, 7)), Member("both", tuple(range(8)))
    )  # fmt: skip
    layout = Layout((group("left", 8, *members),))
    means = {"left": np.ones((3, 4)), "right": np.ones((3, 4)), "both": np.ones((3, 8))}
    activity = activity_of(means, layout)
    for best in ([0, 4], [0, 1, 2], [0, 1, 2, 5]):
        scores = np.zeros((3, 8))
        scores[:, best] = 1.0
        kept = nns.select(
            activity, 0, score=lambda _, s=scores: {"left": s}, keep=nns.at_least(1), multiple_of=2
        ).kept["left"]
        assert set(best) <= set(kept)
        for member in members:
            assert len(set(member.units) & set(kept)) % 2 == 0
    with pytest.raises(nns.errors.SelectionError, match="multiple_of=0"):
        nns.select(activity, 0, multiple_of=0)


@pytest.mark.parametrize("by", ["max", "mean", "l2"])
def test_a_global_rule_may_compare_each_group_by_its_own_size(by):
    """A group whose scores are a thousand times those of another does not drown it."""
    even = np.array([[1.0, 0.6, 0.2, 0.0]] * 3)
    odd = np.array([[900.0, 500.0, 100.0]] * 3)
    activity = activity_of({"first": even, "second": odd})
    drowned = nns.select(activity, 0, score="mean_activation", keep=nns.top(3, scope="global"))
    assert drowned.kept == {"first": (0,), "second": (0, 1, 2)}
    fair = nns.select(
        activity, 0, score="mean_activation", keep=nns.top(4, scope="global", normalise=by)
    )
    assert fair.kept == {"first": (0, 1), "second": (0, 1)}


def test_a_rule_on_a_signed_score_removes_what_hurts():
    scores = {"first": np.array([[0.5, -0.1, 0.0, -3.0]] * 3), "second": -np.ones((3, 3))}
    activity = activity_of({"first": np.ones((3, 4)), "second": np.ones((3, 3))})
    plan = nns.select(activity, 0, score=lambda _: scores, keep=nns.at_least(0))
    assert plan.kept == {"first": (0, 2), "second": (0,)}


# What goes without saying ------------------------------------------------------------------------

OPPOSED = {
    "first": [[9, 1, 8, 2], [9, 5, 0, 2], [9, 5, 1, 2]],
    "second": [[3, 3, 0], [3, 0, 0], [3, 0, 4]],
}


def test_by_default_what_tells_a_label_from_the_rest_stays():
    """The loudest unit of all is as loud for all, and goes."""
    activity = activity_of(OPPOSED)
    plan = nns.select(activity, "cat")
    rest = (20 * np.array(OPPOSED["first"][1]) + 30 * np.array(OPPOSED["first"][2])) / 50
    gap = np.abs(np.array(OPPOSED["first"][0]) - rest)
    assert plan.kept["first"] == tuple(sorted(np.argsort(-gap)[:2])) == (1, 2)
    assert plan.choices[0].score == "contrast" and plan.choices[0].keep == "fraction(0.5)"


@pytest.mark.parametrize(
    "asked",
    [{"score": "mean_activation"}, {"keep": nns.above(0.4)}, {"keep": 0.4}],
    ids=["score", "rule", "number"],
)
def test_the_papers_rule_is_one_word_away(asked):
    activity = activity_of(OPPOSED)
    assert nns.select(activity, "cat", **asked).kept == papers_rule(activity, 0, 0.4)


def test_where_there_is_nothing_to_tell_a_label_from_the_loud_units_stay():
    activity = activity_of(OPPOSED, samples=(10, 0, 0))
    plan = nns.select(activity, "cat")
    assert plan.choices[0].score == "mean_activation"
    assert plan.kept["first"] == (0, 2)


@pytest.mark.parametrize("groups", ["first", "f*", ["first"], ["f?rst", "fi*"]])
def test_units_are_chosen_in_the_groups_that_are_meant(groups):
    activity = activity_of({"first": [[4, 3, 2, 1]] * 3, "second": [[1, 2, 3]] * 3})
    plan = nns.select(activity, 0, score="mean_activation", keep=nns.top(1), groups=groups)
    assert plan.kept == {"first": (0,), "second": (0, 1, 2)}
    whole = nns.select(activity, 0, score="mean_activation", keep=nns.top(1), groups="*")
    assert whole == nns.select(activity, 0, score="mean_activation", keep=nns.top(1))


@pytest.mark.parametrize("groups", ["third", ["first", "third"], []])
def test_groups_that_are_none_are_refused(groups):
    activity = activity_of({"first": [[4, 3, 2, 1]] * 3, "second": [[1, 2, 3]] * 3})
    with pytest.raises(nns.errors.SelectionError, match="'first', 'second'"):
        nns.select(activity, 0, groups=groups)


def test_groups_without_a_score_are_refused():
    activity = activity_of({"first": [[4, 3, 2, 1]] * 3})
    with pytest.raises(nns.errors.SelectionError, match="says nothing of 'second'"):
        nns.select(activity, 0, score="mean_activation", groups="second")
