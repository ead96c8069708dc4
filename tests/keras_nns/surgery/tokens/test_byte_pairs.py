"""Fewer merges: a word that was made into tokens that stay is made into the same ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nns.surgery.tokens.byte_pairs import Merges
from keras_nns.surgery.tokens.pieces import alone

LETTERS = "abc"


def made(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Oracle: merge the leftmost pair of the first merge that applies, until none does."""
    parts = list(word)
    while True:
        for a, b in merges:
            places = [i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == (a, b)]
            if places:
                parts[places[0] : places[0] + 2] = [a + b]
                break
        else:
            return parts


@st.composite
def ranked(draw):
    """Merges in an order that no training gives: a pair may rank before what it is made of."""
    tokens, merges = list(LETTERS), []
    for _ in range(draw(st.integers(1, 9))):
        a, b = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if (a, b) not in merges and len(a + b) <= 8:
            merges.append((a, b))
            tokens = list(dict.fromkeys([*tokens, a + b]))
    return tokens, draw(st.permutations(merges))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ranked(), st.data())
def test_words_of_tokens_that_stay_are_made_into_the_same(rules, data):
    tokens, merges = rules
    numbers = {token: number for number, token in enumerate(tokens)}
    asked = data.draw(st.sets(st.sampled_from(tokens))) | set(LETTERS)
    cut = Merges(numbers, merges)
    kept = asked | {tokens[number] for number in cut.made_of(asked)}
    left = cut.left(kept)
    # What stays is closed: nothing more is needed for what was added.
    assert {tokens[number] for number in cut.made_of(kept)} <= kept
    for word in data.draw(st.lists(st.text(LETTERS, min_size=1, max_size=14), max_size=12)):
        parts = made(word, left)
        assert "".join(parts) == word and set(parts) <= kept
        whole = made(word, merges)
        if set(whole) <= kept:
            assert parts == whole


def test_a_token_without_what_it_is_made_of_would_be_lost():
    """The test can fail: with the token alone its word falls into letters."""
    tokens = ["a", "b", "c", "ab", "abc"]
    merges = [("a", "b"), ("ab", "c")]
    cut = Merges({token: number for number, token in enumerate(tokens)}, merges)
    assert made("abc", cut.left({"a", "b", "c", "abc"})) == ["a", "b", "c"]
    assert cut.made_of(["abc"]) == {0, 1, 2, 3, 4}
    assert made("abc", cut.left({"a", "b", "c", "ab", "abc"})) == ["abc"]


def test_a_token_that_merging_never_makes_needs_nothing():
    tokens = ["a", "b", "c", "bc", "ab", "abc", "<end>"]
    merges = [("b", "c"), ("a", "b"), ("ab", "c")]  # "bc" ranks first, so "abc" is never made.
    cut = Merges({token: number for number, token in enumerate(tokens)}, merges)
    assert made("abc", merges) == ["a", "bc"]
    assert cut.made_of(["abc", "<end>"]) == set()
    assert "<end>" not in cut.made


@pytest.mark.parametrize(
    ("names", "mark", "single", "held"),
    [
        (["a", "b", "ab", "abx"], "", {0, 1}, {3}),
        # Within a word "x" does not stand alone, though it does at the start of one.
        (["x", "y", "##y", "xy", "yx", "##", "##yy"], "##", {0, 1, 2}, {4, 5}),
    ],
)
def test_characters_that_do_not_stand_alone_hold_their_tokens(names, mark, single, held):
    assert alone(dict(enumerate(names)), mark) == (single, held)
