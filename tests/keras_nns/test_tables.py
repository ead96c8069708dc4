"""Whatever a user names a label, a table stays a table and shows the name as it is."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from keras_nns import tables

PARSER = MarkdownIt("commonmark").enable("table")
words = st.text(
    alphabet=st.one_of(
        st.sampled_from("\\`*_[]<>|~&$#+-=.()! 19a\n"), st.characters(codec="utf-8")
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: text.split() and text.isprintable())


def shown(markdown):
    """Return the text that a Markdown reader sees, and the kinds of blocks it is in."""
    tokens = PARSER.parse(markdown)
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "text_special", "softbreak"}
    return ["".join(c.content for c in t.children) for t in tokens if t.children is not None], [
        token.type for token in tokens if token.nesting == 1
    ]


@given(words)
@settings(max_examples=300, deadline=None)
def test_escaped_text_is_shown_as_it_is(text):
    texts, blocks = shown(tables.escape(text))
    assert texts == [" ".join(text.split())]
    assert blocks == ["paragraph_open"]


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_cells_stay_in_their_places(rows):
    table = tables.Table(("label", "samples"), tuple(rows))
    texts, blocks = shown(table.to_markdown())
    assert texts == ["label", "samples", *(" ".join(c.split()) for row in rows for c in row)]
    assert blocks.count("tr_open") == len(rows) + 1


def test_a_frame_holds_numbers_and_words():
    table = tables.Table(
        ("label", "samples", "recall", "kept", "note", "size", "note"),
        (
            ("1", "1,200", "0.500", "12.5 %", "1 of 2", "-3", ""),
            ("b", "34", "–", "100 %", "7", "1e-3", ""),
        ),
    )
    frame = table.to_frame()
    assert list(frame.columns) == list(table.columns)
    assert frame["label"].tolist() == ["1", "b"]
    assert frame["samples"].sum() == 1234
    assert frame["recall"][0] == 0.5
    assert math.isnan(frame["recall"][1])
    assert frame["kept"].tolist() == [0.125, 1.0]
    assert frame["note"].iloc[:, 0].tolist() == ["1 of 2", "7"]
    assert frame["size"].tolist() == [-3, 0.001]
    assert len(tables.Table(("a", "b"), ()).to_frame()) == 0


def test_a_printed_table_shows_markup_as_text():
    text = str(tables.Table(("label", "n"), (("[red]a[/red]", "1"),), "what it is"))
    assert "[red]a[/red]" in text and text.endswith("what it is") and "\x1b" not in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (tables.share(0.12345), "0.123"),
        (tables.share(math.nan), "–"),
        (tables.count(1234567), "1,234,567"),
        (tables.count(None), "–"),
        (tables.ratio(1, 8), "12.5 %"),
        (tables.ratio(None, 8), "–"),
        (tables.ratio(1, 0), "–"),
    ],
)
def test_figures_are_written_the_same_everywhere(written, expected):
    assert written == expected


def test_names_stay_beside_many_columns():
    """Ten labels of ten columns are wider than a page, and rows without names say nothing."""
    names = [f"subnetwork_{i}" for i in range(10)]
    rows = tuple((name, *("1,234 (0.123)" for _ in names)) for name in names)
    text = str(tables.Table(("subnetwork", *names), rows))
    for name in names:
        assert any(line.split()[:1] == [name] for line in text.splitlines())
    assert text.count("1,234 (0.123)") == 100


def test_a_table_without_rows_is_its_caption():
    assert str(tables.Table(("layer", "change"), (), "Nothing was done.")) == "Nothing was done."


def test_a_notebook_shows_a_table():
    table = tables.Table(("label", "samples"), (("cat", "12"),), caption="Two.")
    assert table._repr_html_() == table.to_html()


def test_a_notebook_shows_cells_as_text():
    table = tables.Table(("label", "n"), (("<b>a</b>\x1b[31m", "1"),), "what & how")
    html = table.to_html()
    assert "&lt;b&gt;a&lt;/b&gt;\\x1b[31m" in html
    assert "<p>what &amp; how</p>" in html
    assert html.count("<tr>") == 2


def test_a_long_name_without_blanks_is_folded_and_never_cut_off():
    names = [f"backbone_of_some_length/block_{i}_expand" for i in (1, 12)]
    columns = ("layer", *(f"figure {i}" for i in range(12)))
    rows = tuple((name, *["1,234"] * 12) for name in names)
    lines = [line.split(" ", 2)[1] for line in str(tables.Table(columns, rows)).splitlines()[2:]]
    assert "".join(lines) == "".join(names)
