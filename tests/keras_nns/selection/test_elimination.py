"""Elimination against least-squares fits of everything that is left, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nns.selection import elimination
from keras_nns.selection.elimination import Reader, eliminate, rising


def case(seed, units=6, each=2, outputs=3, samples=300):
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, units * each)) @ random.normal(size=(units * each,) * 2)
    x = x * random.uniform(0.1, 5, x.shape[1]) + random.normal(size=x.shape[1])
    root = random.normal(size=(outputs, outputs))
    columns = random.permutation(units * each).reshape(units, each)
    reader = Reader(
        np.cov(x.T, bias=True),
        random.normal(size=(units * each, outputs)),
        root @ root.T,
        np.arange(units),
        columns,
    )
    return x, reader


def lost(x, reader, gone):
    """Fit what is left to what all gave: the importance-weighted mean square that stays."""
    std = x.std(axis=0)
    z = (x - x.mean(axis=0)) / std
    kernel = std[:, None] * reader.kernel
    # A ridge of 0.001 of the variance, as rows of data.
    rows = np.r_[z, np.sqrt(1e-3 * len(x)) * np.eye(x.shape[1])]
    removed = np.concatenate([reader.columns[reader.units == u].ravel() for u in gone])
    left = np.setdiff1d(np.arange(x.shape[1]), removed)
    wanted = rows @ kernel
    fit = np.linalg.lstsq(rows[:, left], wanted, rcond=None)[0]
    off = wanted - rows[:, left] @ fit
    return float(np.trace(off.T @ off @ reader.importance)) / len(x)


@pytest.mark.parametrize("seed", range(3))
def test_each_removal_is_the_one_that_loses_least(seed):
    x, reader = case(seed)
    order, losses = eliminate([reader], range(6))
    gone, before = [], 0.0
    for unit, loss in zip(order[:-1], losses[:-1], strict=True):
        after = {u: lost(x, reader, [*gone, u]) for u in range(6) if u not in gone}
        assert unit == min(after, key=after.get)
        np.testing.assert_allclose(loss, after[unit] - before, rtol=1e-6)
        gone.append(unit)
        before = after[unit]


def test_losses_of_several_readers_add_up():
    (x, one), (z, two) = case(3), case(4, each=1, outputs=2)
    order, losses = eliminate([one, two], range(6))
    after = {u: lost(x, one, [u]) + lost(z, two, [u]) for u in range(6)}
    assert order[0] == min(after, key=after.get)
    np.testing.assert_allclose(losses[0], min(after.values()), rtol=1e-6)


def test_what_is_said_twice_or_never_changes_costs_nothing_once():
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 4))
    x[:, 2] = 100.0
    x = np.c_[x, x[:, 0]]
    reader = Reader(
        np.cov(x.T, bias=True), random.normal(size=(5, 2)), np.eye(2), np.arange(5),
        np.arange(5)[:, None],
    )  # fmt: skip
    order, losses = eliminate([reader], range(5))
    assert order[0] == 2 and order[1] in (0, 4)
    assert losses[0] == 0
    assert losses[1] < 0.01 * losses[2]


def test_units_that_may_not_go_stay_and_stand_in():
    x, reader = case(5)
    order, losses = eliminate([reader], [1, 4])
    assert sorted(order) == [1, 4]
    np.testing.assert_allclose(losses.sum(), lost(x, reader, [1, 4]), rtol=1e-6)


def test_without_importance_nothing_is_lost():
    _, reader = case(6)
    nothing = Reader(
        reader.covariance, reader.kernel, 0 * reader.importance, reader.units, reader.columns
    )
    assert eliminate([nothing], range(6))[1].max() == 0


@pytest.mark.slow
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12))
def test_rising_losses_rise_and_keep_their_sum(losses):
    found = rising(np.array(losses))
    assert (np.diff(found) > 0).all() or max(losses) < 1e-290
    np.testing.assert_allclose(found.sum(), sum(losses), rtol=1e-6, atol=1e-250)
    # Never above the sums they replace.
    assert (found.cumsum() <= np.cumsum(losses) + 1e-6 * max(losses) + 1e-250).all()


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_importance_that_knows_few_directions_has_a_root_of_as_many(rank):
    random = np.random.default_rng(rank)
    factor = random.normal(size=(7, rank)) * [[1e4], [1], [1], [0], [1e-3], [1], [1]]
    root = elimination._root(factor @ factor.T)
    assert root.shape[0] == 7 and root.shape[1] <= rank
    np.testing.assert_allclose(root @ root.T, factor @ factor.T, rtol=1e-6, atol=1e-4)
