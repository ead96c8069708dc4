"""Plans: the algebra of sets, and files that cannot be misread."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nns.errors import FileError, PlanError
from keras_nns.plans.kept_units import Choice, Plan, union
from keras_nns.plans.units import Fingerprint

PARENT = Fingerprint("structure", "weights")
SIZES = {"first": 5, "block/second": 3, "third": 1}
NAMES = ("cat", "dog", "größe")

choices = st.builds(
    Choice,
    labels=st.tuples(st.integers(0, 2)),
    score=st.sampled_from(["mean_activation", "contrast"]),
    keep=st.just("above(0.4)"),
    thresholds=st.just((("first", 0.25), ("third", 1e-9))),
    scores=st.sampled_from([(), (("first", (0.5, 0.25, -math.inf, 1 / 3, 0.0)),)]),
)
plans = st.builds(
    Plan,
    fingerprint=st.just(PARENT),
    sizes=st.just(SIZES),
    kept=st.fixed_dictionaries(
        {name: st.sets(st.integers(0, size - 1)).map(tuple) for name, size in SIZES.items()}
    ),
    labels=st.sets(st.integers(0, 2)).map(tuple),
    label_names=st.sampled_from([NAMES, (), ("0", "1", "2")]),
    choices=st.lists(choices, max_size=2).map(tuple),
)


def sets(plan):
    return {name: set(units) for name, units in plan.kept.items()}


@pytest.mark.slow
@given(plans, plans, plans)
def test_union_and_intersection_are_those_of_sets(a, b, c):
    assert sets(a | b) == {n: sets(a)[n] | sets(b)[n] for n in SIZES}
    assert sets(a & b) == {n: sets(a)[n] & sets(b)[n] for n in SIZES}
    assert sets(a - b) == {n: sets(a)[n] - sets(b)[n] for n in SIZES}
    assert (a | b) | c == a | (b | c)
    assert (a & b) & c == a & (b & c)
    assert a | b == b | a
    assert a & b == b & a
    assert a | a == a
    assert a & a == a
    assert ((a | b) | c).choices == (c | (b | a)).choices
    assert (a - b).labels == a.labels
    assert (a | b).labels == tuple(sorted({*a.labels, *b.labels}))


@pytest.mark.slow
@given(st.lists(plans, min_size=1, max_size=4))
def test_merging_is_uniting_in_any_order(several):
    assert union(several) == union(reversed(several))


@pytest.mark.slow
@given(plans, plans)
def test_relative_to_counts_among_the_units_that_are_left(p, q):
    smaller = Fingerprint("smaller", "weights")
    left = q.relative_to(p, smaller)
    assert left.fingerprint == smaller
    assert left.labels == q.labels
    assert set(left.kept) == set(SIZES) - set(p.empty)
    for name in left.kept:
        there = sorted(p.kept[name])
        assert {there[i] for i in left.kept[name]} == sets(p)[name] & sets(q)[name]
        assert left.sizes[name] == len(there)


@pytest.mark.slow
@given(plans)
def test_json_reads_back_equal_with_its_reasons(plan):
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.choices == plan.choices
    assert again.to_json() == plan.to_json()


@pytest.mark.slow
@given(plans)
def test_a_plan_file_holds_the_scores_it_was_chosen_by(plan):
    again = Plan.from_json(json.loads(json.dumps(plan.to_json(scores=True), allow_nan=False)))
    assert [choice.scores for choice in again.choices] == [c.scores for c in plan.choices]
    assert all("scores" not in choice for choice in plan.to_json()["choices"])


@given(plans)
@settings(max_examples=10)
def test_plans_of_two_parents_do_not_combine(plan):
    other = replace(plan, fingerprint=Fingerprint("structure", "trained further"))
    for combine in (Plan.__or__, Plan.__and__, Plan.__sub__):
        with pytest.raises(PlanError, match="one parent"):
            combine(plan, other)
    with pytest.raises(PlanError, match="one parent"):
        plan.relative_to(other, PARENT)


def simple(**changes):
    kept = {"first": (0, 3), "block/second": (1,), "third": (0,)}
    return replace(Plan(PARENT, SIZES, kept, (1, 2), NAMES), **changes)


def test_plans_that_name_labels_differently_do_not_combine():
    with pytest.raises(PlanError, match="dog"):
        simple() | simple(label_names=("cat", "bird", "größe"))


def test_a_plan_combines_with_nothing_else():
    with pytest.raises(TypeError):
        simple() | {1}
    with pytest.raises(PlanError, match="at least one"):
        union([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": {"first": (0,)}}, "same groups"),
        ({"kept": {"first": (5,), "block/second": (), "third": ()}}, "0 to 4"),
        ({"kept": {"first": (-1,), "block/second": (), "third": ()}}, "0 to 4"),
        ({"sizes": {"first": 5, "block/second": 3, "third": 0}}, "third"),
        ({"labels": (3,)}, "3 labels"),
        ({"labels": (-1,)}, "-1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(PlanError, match=message):
        simple(**changes)


def test_what_a_plan_says_of_itself():
    plan = simple(kept={"first": (), "block/second": (0, 1, 2), "third": (0,)})
    assert plan.empty == ("first",)
    assert not plan.keeps_all
    assert (plan | simple(kept={n: tuple(range(s)) for n, s in SIZES.items()})).keeps_all
    assert plan.names == ("dog", "größe")
    assert str(plan) == "Plan for dog, größe: 4 of 9 units"
    assert simple(label_names=()).names == ("1", "2")


def test_files_read_back_equal(tmp_path):
    path = tmp_path / "plan.json"
    simple().save(path)
    assert Plan.load(path) == simple()
    with pytest.raises(FileError, match="overwrite=True"):
        simple().save(path)
    simple(labels=(0,)).save(path, overwrite=True)
    assert Plan.load(path).labels == (0,)


@given(cut=st.integers(0, 10_000))
def test_a_file_cut_short_gives_one_error(tmp_path_factory, cut):
    data = json.dumps(simple().to_json()).encode()
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    path.write_bytes(data[: cut % len(data)])
    with pytest.raises(FileError, match=r"plan\.json"):
        Plan.load(path)


@pytest.mark.slow
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=300)
def test_a_damaged_file_gives_one_error_or_is_still_a_plan(tmp_path_factory, place, value):
    """JSON is there to be edited by hand, so it has no checksum: what still says a plan is one."""
    data = bytearray(json.dumps(simple().to_json()).encode())
    data[place % len(data)] = value
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    path.write_bytes(data)
    try:
        assert isinstance(Plan.load(path), Plan)
    except FileError as error:
        assert "plan.json" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"plan"',
        "[" * 100_000,
        '{"format": "keras_nns.lineage"}',
        '{"format": "keras_nns.plan", "version": 1}',
        '{"format": "keras_nns.plan", "version": 2}',
        json.dumps(simple().to_json()).replace('"size": 5', '"size": 1e999'),
        json.dumps(simple().to_json()).replace('"size": 5', '"size": 0'),
        json.dumps(simple().to_json()).replace('"size": 5', '"size": null'),
        json.dumps(simple().to_json()).replace('"kept": [0, 3]', '"kept": [0, 9]'),
        json.dumps(simple().to_json()).replace('"kept": [0, 3]', '"kept": [0, 3.5]'),
    ],
)
def test_foreign_files_give_one_error(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(FileError, match=r"plan\.json"):
        Plan.load(path)


def test_a_missing_file_gives_one_error(tmp_path):
    with pytest.raises(FileError, match=r"nowhere\.json"):
        Plan.load(tmp_path / "nowhere.json")
    with pytest.raises(FileError, match="Cannot read"):
        Plan.load(tmp_path)


def test_a_plan_says_why_a_unit_stays():
    scores = (("first", (0.5, 0.25, -math.inf, 1 / 3, 0.0)),)
    plan = Plan(
        PARENT, SIZES, {"first": (0, 1), "block/second": (0, 1, 2), "third": (0,)}, (1,), NAMES,
        choices=(
            Choice((1,), "mean_activation", "above(0.4)", (("first", 0.25),), scores),
            Choice((1,), "contrast", "top(1)", (("first", 2.0),)),
        ),
    )  # fmt: skip
    assert plan.why("first", 1).splitlines() == [
        "Unit 1 of 'first' stays.",
        "For dog, top(1): chosen by contrast; its score was not recorded.",
        "For dog, above(0.4): its mean_activation is 0.25, and 0.25 was enough.",
    ]
    assert "Unit 3 of 'first' goes." in plan.why("first", 3)
    assert "nothing is known of these units" in plan.why("block/second", 0)
    assert "by hand" in simple().why("first", 0)
    with pytest.raises(PlanError, match=r"'first', 'block/second'"):
        plan.why("fourth", 0)
    with pytest.raises(PlanError, match="0 to 4"):
        plan.why("first", 5)
    assert repr(plan) == f"<{plan}>"
