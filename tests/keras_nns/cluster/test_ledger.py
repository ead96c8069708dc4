"""Every unit of work counts once, whatever dies, comes late or is lost on the way."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from keras_nns.cluster import ledger
from keras_nns.cluster.ledger import Ledger, Piece, Unit
from keras_nns.errors import WorkerError


def unit(number, rows=3):
    return Unit(number, (Piece("block", 0, rows),))


@pytest.mark.parametrize("seed", range(20))
def test_each_unit_counts_once_in_any_run(seed, monkeypatch):
    """Workers die at random, answer late, and sums are lost; what is counted is held beside."""
    monkeypatch.setattr(ledger, "TRIES", 10**6)
    random = np.random.default_rng(seed)
    book, left, counted = Ledger(), iter(range(40)), Counter()
    workers, next_worker, late, sums = [0, 1, 2], 3, [], []
    out: list[tuple[int, int]] = []
    source_over = False
    while not (source_over and book.over):
        what = random.integers(0, 10)
        if what < 5:
            given = book.again()
            if given is None:
                number = next(left, None)
                source_over = number is None
                given = None if number is None else unit(number)
            if given is not None:
                worker = int(random.choice(workers))
                book.give(given, worker)
                out.append((given.number, worker))
        elif what < 8 and out:
            number, worker = out.pop(int(random.integers(len(out))))
            if book.accept(number, worker):
                sums.append(number)
        elif what == 8:
            dead = workers.pop(int(random.integers(3)))
            workers.append(next_worker)
            next_worker += 1
            book.lost(dead, "gone")
            late += [one for one in out if one[1] == dead]
            out = [one for one in out if one[1] != dead]
        elif late:  # What the dead had sent before arrives all the same.
            assert not book.accept(*late.pop())
        if len(sums) >= 3 or (sums and source_over and book.quiet):
            if random.random() < 0.3:
                book.recall(sums, "lost")
            else:
                book.count(sums)
                counted.update(sums)
            sums = []
    assert counted == Counter(range(40))
    assert book.counted == book.seen == 120


def test_an_answer_counts_once_and_of_who_was_asked():
    book = Ledger()
    book.give(unit(0), 1)
    book.lost(1, "gone")
    assert not book.accept(0, 1)
    again = book.again()
    assert again is not None and again.number == 0
    book.give(again, 2)
    assert not book.accept(0, 1)
    assert book.accept(0, 2) and not book.accept(0, 2)
    assert (book.seen, book.counted, book.over, book.quiet) == (3, 0, False, True)
    book.count([0])
    assert (book.seen, book.counted, book.over) == (3, 3, True)


def test_what_comes_to_nothing_again_and_again_is_told():
    book = Ledger()
    book.give(unit(0, 1000), 1)
    book.lost(1, "first")
    book.give(book.again(), 2)
    book.failed(0, "second")
    book.give(book.again(), 3)
    assert book.accept(0, 3)
    with pytest.raises(WorkerError, match=r"1,000 samples have come to nothing 3 times.*: third"):
        book.recall([0], "third")


def test_nothing_is_kept_of_what_is_counted():
    book = Ledger()
    for number in range(1000):
        book.give(unit(number), 0)
        assert book.accept(number, 0)
        book.count([number])
    kept = [value for value in vars(book).values() if not isinstance(value, int)]
    assert not any(kept) and book.counted == 3000
