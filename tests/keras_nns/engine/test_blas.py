"""Products of matrices: right, on one thread of BLAS each, and everything put back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from keras_nns.engine import blas, operations


def threads():
    """Return how many threads each BLAS has."""
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def several_threads():
    """Two threads for BLAS, however many cores there are."""
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 9), (1000, 7), (4001, 40)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gram_is_the_sum_of_outer_products(shape, dtype, monkeypatch):
    rows = np.random.default_rng(0).normal(size=shape).astype(dtype)
    wanted = np.einsum("ri,rj->ij", rows.astype(np.float64), rows.astype(np.float64))
    for cores in (1, 3):
        monkeypatch.setattr(blas, "_cores", lambda count=cores: count)
        for gram in (blas.gram, operations.gram):
            found = gram(rows)
            assert found.dtype == dtype
            scale = max(1.0, np.abs(wanted).max(initial=0.0))
            assert np.abs(found - wanted).max(initial=0.0) <= np.finfo(dtype).eps * 64 * scale


def test_threads_come_back():
    assert set(threads()) == {2}
    with blas.one_thread():
        assert set(threads()) == {1}
        with blas.one_thread():
            assert set(threads()) == {1}
        assert set(threads()) == {1}
    assert set(threads()) == {2}
    with pytest.raises(ZeroDivisionError), blas.one_thread():
        1 / 0  # noqa: B018
    assert set(threads()) == {2}


def test_large_matrices_keep_their_threads():
    with blas.one_thread(blas.LARGE):
        assert set(threads()) == {2}
    with blas.one_thread(blas.LARGE - 1):
        assert set(threads()) == {1}


class Counted:
    """Stands for what limits threads: says what was done to it."""

    def __init__(self):
        self.done = []

    def limit(self, **options):
        self.done.append(options)
        return self

    def restore_original_limits(self):
        self.done.append("restored")


def test_several_at_once_leave_it_as_it_was(monkeypatch):
    """Whoever began first ends first, while the other still runs."""
    counted = Counted()
    monkeypatch.setattr(blas, "_controller", lambda: counted)
    one, other = blas.one_thread(), blas.one_thread()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert counted.done == [{"limits": 1, "user_api": "blas"}]
    other.__exit__(None, None, None)
    assert counted.done[1:] == ["restored"]


def test_many_threads_of_ours_come_out_even(monkeypatch):
    counted = Counted()
    monkeypatch.setattr(blas, "_controller", lambda: counted)

    def work(number):
        for _ in range(200):
            with blas.one_thread():
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert counted.done[::2] == [{"limits": 1, "user_api": "blas"}] * (len(counted.done) // 2)
    assert set(counted.done[1::2]) == {"restored"}
