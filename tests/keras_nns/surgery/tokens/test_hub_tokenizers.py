"""Tokenizers of KerasHub with fewer tokens: the same pieces, the same text, nothing refused."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nns.errors import SurgeryError
from keras_nns.surgery.tokens.known import pieces_of
from keras_nns.surgery.tokens.pieces import closed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
]
KINDS = ("gpt2", "llama3", "bert", "gemma", "t5", "llama", "fast")


@cache
def told():
    import hub_tokenizers

    return hub_tokenizers


@cache
def made(kind):
    tokenizer = told().trained() if kind == "fast" else told().ALL[kind]()
    return tokenizer, pieces_of(tokenizer)


@cache
def cut_for_code(kind):
    """Return the tokenizer of code, which of the old tokens it holds, and its reader."""
    _, pieces = made(kind)
    asked = set(chain(*pieces.encode(told().CODE)))
    kept = sorted(closed(pieces, asked))
    new = pieces.cut(kept)
    return new, kept, pieces_of(new)


def decoded(tokenizer, ids):
    if hasattr(tokenizer, "decode"):
        return tokenizer.decode(ids, skip_special_tokens=False)
    return tokenizer.detokenize(np.array(ids, np.int32)) if ids else ""


def same(kind, texts):
    """Check texts against the uncut tokenizer."""
    old, pieces = made(kind)
    new, kept, fewer = cut_for_code(kind)
    place = {number: index for index, number in enumerate(kept)}
    for text, whole, part in zip(texts, pieces.encode(texts), fewer.encode(texts), strict=True):
        if place.keys() >= set(whole):
            assert part == [place[number] for number in whole], text
        # What the parent could tell is told; what it could not is unknown to both.
        assert decoded(new, part) == decoded(old, whole), text


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_smaller_and_of_the_same_class(kind):
    old, pieces = made(kind)
    new, kept, fewer = cut_for_code(kind)
    assert type(new) is type(old)
    assert set(fewer.names) == set(range(len(kept))) and len(kept) < len(pieces.names)
    assert [fewer.names[i] for i in range(len(kept))] == [pieces.names[number] for number in kept]
    assert list(fewer.special.values()) == list(pieces.special.values())
    # The user's tokenizer is as it was.
    assert pieces_of(old).names == pieces.names
    assert pieces.encode(told().PROSE) == made(kind)[1].encode(told().PROSE)


@pytest.mark.parametrize("kind", KINDS)
def test_code_is_cut_into_the_same_pieces(kind):
    _, pieces = made(kind)
    _, kept, fewer = cut_for_code(kind)
    place = {number: index for index, number in enumerate(kept)}
    whole = pieces.encode(told().CODE)
    assert fewer.encode(told().CODE) == [[place[number] for number in row] for row in whole]


WORDS = st.sampled_from(
    [
        *("def", "add", "first", " return", "number", "names", "\n    ", "the", "quick", "range"),
        *("(", ")", "é", " 東京", "  ", "ßx", "0", "na", "ïve", "Ελ", "!=", "**", "!", "'", "re"),
        "<|endoftext|>",
    ]
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.lists(WORDS, max_size=9).map("".join), min_size=1, max_size=6))
def test_texts_of_kept_tokens_are_the_same_pieces_and_all_texts_the_same_text(kind, texts):
    same(kind, texts)


@pytest.mark.parametrize("kind", ["gpt2", "gemma"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_no_text_is_refused_where_bytes_stay(kind, text):
    same(kind, [text])
    new, _, fewer = cut_for_code(kind)
    (ids,) = fewer.encode([text])
    assert decoded(new, ids) == decoded(made(kind)[0], made(kind)[1].encode([text])[0])
    assert fewer.names[3] != "<unk>" or 3 not in ids


@pytest.mark.parametrize("kind", ["gpt2", "bert", "gemma"])
def test_a_graph_of_tensorflow_gets_the_same_pieces(kind):
    import tensorflow as tf

    new, kept, _ = cut_for_code(kind)
    texts = told().TEXTS[:2]
    data = tf.data.Dataset.from_tensor_slices(texts).map(new)
    old = tf.data.Dataset.from_tensor_slices(texts).map(made(kind)[0])
    place = {number: index for index, number in enumerate(kept)}
    # KerasHub splits words otherwise there, so that other tokens may be asked for.
    for part, whole in zip(data.as_numpy_iterator(), old.as_numpy_iterator(), strict=True):
        if place.keys() >= set(whole.tolist()):
            assert part.tolist() == [place[number] for number in whole.tolist()]
        assert decoded(new, part.tolist()) == decoded(made(kind)[0], whole.tolist())


def test_special_tokens_that_a_class_does_not_write_down_stay_what_they_are():
    import hub_backbones

    vocabulary, merges = told().rules()
    for name in ("<start>", "<stop>"):
        vocabulary[name] = len(vocabulary)
    make = hub_backbones.models.Llama3Tokenizer
    own = make(vocabulary, merges, "<start>", "<stop>", misc_special_tokens={"<|endoftext|>"})
    pieces = pieces_of(own)
    new = pieces.cut(sorted(closed(pieces, [100])))
    assert (new.start_token, new.end_token) == ("<start>", "<stop>")
    assert new.id_to_token(new.start_token_id) == "<start>"


def test_what_is_put_around_texts_is_numbered_anew():
    from tokenizers import processors

    old = type(told().trained()).from_str(told().trained().to_str())
    end = old.token_to_id(told().END)
    old.post_processor = processors.TemplateProcessing(
        single=f"{told().END} $A {told().END}", special_tokens=[(told().END, end)]
    )
    pieces = pieces_of(old)
    kept = sorted(closed(pieces, [400]))
    new = pieces.cut(kept)
    around = new.encode("a").ids
    assert around[0] == around[-1] == kept.index(end) and len(around) == 3


def test_what_is_not_known_is_refused_with_the_way_round():
    import hub_backbones
    import keras_hub
    from tokenizers import Tokenizer, models

    class Own(keras_hub.tokenizers.BytePairTokenizer):
        def tokenize(self, inputs):
            return super().tokenize(inputs)

    vocabulary, merges = told().rules()
    with pytest.raises(SurgeryError, match=r"Own is cut, which has tokenize of its own"):
        pieces_of(Own(vocabulary, merges))
    with pytest.raises(SurgeryError, match="how a ByteTokenizer is cut"):
        pieces_of(keras_hub.tokenizers.ByteTokenizer())
    with pytest.raises(SurgeryError, match="how a str is cut"):
        pieces_of("gpt2")
    with pytest.raises(SurgeryError, match="no vocabulary yet"):
        pieces_of(hub_backbones.models.GPT2Tokenizer())
    with pytest.raises(SurgeryError, match=r"byte-level pairs can be cut.*WordLevel"):
        pieces_of(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(SurgeryError, match="kind CHAR; only BPE and UNIGRAM"):
        pieces_of(keras_hub.tokenizers.SentencePieceTokenizer(told().proto("char", False, 50)))


def test_without_the_library_of_sentencepiece_there_is_one_clear_error(monkeypatch):
    import sys

    tokenizer, _ = made("llama")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(SurgeryError, match="pip install sentencepiece protobuf"):
        pieces_of(tokenizer)


def test_the_json_of_the_fast_one_is_not_changed():
    old, pieces = made("fast")
    before = json.loads(old.to_str())
    pieces.cut(sorted(closed(pieces, [300])))
    assert json.loads(old.to_str()) == before
