"""Passes over what a generator yields, as backends other than TensorFlow are given them."""

from __future__ import annotations

import pytest

from keras_nns.engine.datasets import _Passes


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_epoch_is_a_pass_of_its_own(count, looked):
    """Asked as Keras's trainers on jax and torch ask: they may look first, and always reset."""
    begun = []

    def batches():
        begun.append(len(begun))
        for number in range(count):
            yield begun[-1], number

    data = _Passes(batches, count)
    if looked:
        assert data[0] == (0, 0)
    data.on_epoch_end()
    for epoch in range(3):
        assert [data[index] for index in range(count)] == [(epoch, n) for n in range(count)]
        data.on_epoch_end()
    assert begun == [0, 1, 2]
