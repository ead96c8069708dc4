"""Blocks are cut into units of work: each row in exactly one, whole batches in each."""

from __future__ import annotations

import numpy as np
import pytest

from keras_nns.cluster.ledger import Piece
from keras_nns.cluster.reading import units


@pytest.mark.parametrize("seed", range(10))
def test_each_row_is_in_one_unit(seed):
    random = np.random.default_rng(seed)
    ends = [(int(a), int(a + n)) for a, n in random.integers(0, 50, (12, 2))]
    pieces = [Piece(block, *end) for block, end in enumerate(ends)]
    found = list(units(((piece, 8) for piece in pieces), lambda number, row: 16 * (1 + number)))
    assert [unit.number for unit in found] == list(range(len(found)))
    wanted = [(p.block, row) for p in pieces for row in range(p.start, p.stop)]
    rows = [(p.block, row) for u in found for p in u.pieces for row in range(p.start, p.stop)]
    assert rows == wanted
    assert [unit.samples for unit in found[:-1]] == [16 * (1 + n) for n in range(len(found) - 1)]


def test_no_rows_are_no_units():
    assert not list(units(iter([]), lambda number, row: 16))
    assert not list(units(iter([(Piece(0, 3, 3), 1)]), lambda number, row: 16))
