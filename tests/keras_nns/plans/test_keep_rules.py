"""Keep rules against plain definitions of what they keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_nns as nns
from keras_nns.plans.keep_rules import KeepRule, normalised

scores = st.lists(st.floats(-5, 5), min_size=1, max_size=12).map(np.array)


@given(scores, st.floats(0, 1))
def test_above_keeps_from_a_share_of_the_highest_score_on(values, zeta):
    kept = nns.above(zeta)(values)
    highest = max(values)
    bar = zeta * highest if highest > 0 else highest
    assert kept.tolist() == [value >= bar for value in values]
    assert kept[np.argmax(values)]


@given(scores, st.integers(1, 15))
def test_top_keeps_so_many_and_none_that_is_lower_than_one_left_out(values, k):
    kept = nns.top(k)(values)
    assert kept.sum() == min(k, len(values))
    if not kept.all():
        assert values[kept].min() >= values[~kept].max()


@given(scores, st.integers(1, 12))
def test_fraction_of_a_whole_number_of_units_keeps_that_number(values, k):
    k = min(k, len(values))
    assert nns.fraction(k / len(values))(values).tolist() == nns.top(k)(values).tolist()


@given(scores, st.floats(-5, 5))
def test_at_least_keeps_what_reaches_it_whatever_the_others_score(values, bar):
    assert nns.at_least(bar)(values).tolist() == [value >= bar for value in values]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0", None, True])
def test_at_least_needs_a_number(value):
    with pytest.raises(nns.errors.SelectionError, match="value="):
        nns.at_least(value)


def test_fraction_rounds_up():
    assert nns.fraction(0.34)(np.arange(3.0)).sum() == 2


def test_of_equal_scores_the_lower_number_stays():
    assert nns.top(2)(np.array([1.0, 3.0, 3.0, 3.0])).tolist() == [False, True, True, False]


@pytest.mark.parametrize("zeta", [-0.1, 1.1, float("nan"), float("inf"), "0.4", None, True])
def test_zeta_must_be_a_share(zeta):
    with pytest.raises(nns.errors.SelectionError, match="zeta="):
        nns.above(zeta)


@pytest.mark.parametrize("k", [0, -1, 1.5, float("nan"), float("inf"), "3", None, True])
def test_k_must_be_a_positive_whole_number(k):
    with pytest.raises(nns.errors.SelectionError, match="k="):
        nns.top(k)


@pytest.mark.parametrize("p", [0, 1.01, float("nan"), "0.5", None, True])
def test_p_must_be_a_share_above_zero(p):
    with pytest.raises(nns.errors.SelectionError, match="p="):
        nns.fraction(p)


@pytest.mark.parametrize("make", [nns.above, nns.top, nns.fraction])
def test_scope_must_be_known(make):
    with pytest.raises(nns.errors.SelectionError, match="scope='network'"):
        make(1, scope="network")


def test_names_are_what_the_user_would_write():
    rules = {
        "above(0.4)": nns.above(np.float64(0.4)),
        "above(0.123456789)": nns.above(0.123456789),
        "top(16777217)": nns.top(2**24 + 1),
        "fraction(0.25, scope='global')": nns.fraction(0.25, scope="global"),
    }
    assert {rule.name: rule for rule in rules.values()}.keys() == rules.keys()


def test_a_rule_of_the_users_own_must_answer_booleans_for_every_unit():
    for wrong in (lambda s: s, lambda s: s[:1] > 0):
        with pytest.raises(nns.errors.SelectionError, match="mine"):
            KeepRule("mine", wrong)(np.ones(3))


def test_normalise_is_for_global_rules_and_has_names():
    rule = nns.fraction(0.3, scope="global", normalise="l2")
    assert rule.name == "fraction(0.3, scope='global', normalise='l2')"
    with pytest.raises(nns.errors.SelectionError, match="scope='global' with it"):
        nns.top(3, normalise="max")
    with pytest.raises(nns.errors.SelectionError, match="normalise='median'"):
        nns.above(0.3, scope="global", normalise="median")


@pytest.mark.parametrize(
    ("by", "expected"),
    [("max", [0.5, -1]), ("mean", [2 / 3, -4 / 3]), ("l2", [0.2**0.5, -(0.8**0.5)])],
)
def test_normalised_divides_by_the_size_of_the_scores(by, expected):
    np.testing.assert_allclose(normalised(np.array([1.0, -2.0]), by), expected)
    np.testing.assert_array_equal(normalised(np.zeros(3), by), np.zeros(3))
    np.testing.assert_array_equal(normalised(np.array([1.0, -2.0]), None), [1, -2])


def test_uniform_says_which_rule_it_evens_out():
    rule = nns.uniform(nns.above(0.4, scope="global", normalise="max"))
    assert rule.name == "uniform(above(0.4, scope='global', normalise='max'))"
    with pytest.raises(nns.errors.SelectionError, match=r"uniform\(fraction\(0.5\)\)"):
        nns.uniform(0.5)
