"""A page is one content in two forms; users' names stay names; nothing is loaded from outside."""

import base64
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from keras_nns.errors import FileError
from keras_nns.reporting import page
from keras_nns.reporting.page import Bullets, Heading, Paragraph, Picture, Report
from keras_nns.tables import Table

VOID = {"meta", "img", "br", "hr", "link"}


class Reader(HTMLParser):
    """Collect what a browser would: text by tag, attributes, and whether tags are balanced."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and data.strip():
            self.text.setdefault(self.open[-1], []).append(data.strip())


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def urls(reader):
    return [
        value
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]


def picture(name="a layer"):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, 1])
    return Picture.of(name, figure, f"What {name} shows.")


@pytest.fixture
def report():
    return Report(
        "Cats & dogs",
        (
            Heading("First"),
            Paragraph("Nothing was lost."),
            Bullets(("one", "two")),
            picture("a layer"),
            Heading("Second", 3),
            Table(("label", "n"), (("cat", "1"), ("dog", "2")), "Counts.\nOf samples."),
            picture("../../etc: Ünïcode/"),
        ),
    )


def test_html_holds_everything_that_markdown_says(report):
    reader = read(report.to_html())
    assert reader.text["title"] == reader.text["h1"] == ["Cats & dogs"]
    assert (reader.text["h2"], reader.text["h3"]) == (["First"], ["Second"])
    assert reader.text["li"] == ["one", "two"]
    assert reader.text["th"] == ["label", "n"] and reader.text["td"] == ["cat", "1", "dog", "2"]
    assert {"Nothing was lost.", "Counts.", "Of samples."} <= set(reader.text["p"])
    names = {name for tag, attributes in reader.tags for name in [attributes.get("name")]}
    assert "viewport" in names


def test_pictures_are_in_the_page_byte_for_byte(report):
    found = [a["src"] for tag, a in read(report.to_html()).tags if tag == "img"]
    assert len(found) == 2 and all(src.startswith("data:image/png;base64,") for src in found)
    blocks = [block for block in report.blocks if isinstance(block, Picture)]
    for src, block in zip(found, blocks, strict=True):
        data = base64.b64decode(src.split(",")[1], validate=True)
        assert data == block.png
        with Image.open(io.BytesIO(data)) as image:
            image.verify()


def test_nothing_is_loaded_from_outside(report):
    html = report.to_html()
    assert all(url.startswith("data:") for url in urls(read(html)))
    assert "http:" not in html and "https:" not in html and "url(" not in html
    assert "default-src 'none'" in html
    tags = {tag for tag, _ in read(html).tags}
    assert not tags & {"script", "link", "iframe", "object", "a"}


def test_files_of_pictures_have_safe_and_different_names(report):
    assert list(report.pictures) == ["figures/01-a-layer.png", "figures/02-etc-n-code.png"]
    assert list(Report("x", (picture("日本"),)).pictures) == ["figures/01-picture.png"]


NASTY = [
    "<script>alert(1)</script>",
    "![x](http://example.com/x.png)",
    "[x](javascript:alert(1))",
    "<img src=http://example.com/x>",
    "a | b",
    "`code` **bold** _it_",
    "&lt;b&gt;",
    "# not a heading",
    "---",
    "1. not a list",
    "http://example.com",
    '"><b>',
    "a\n\n# b",
]


@pytest.mark.parametrize("text", NASTY)
def test_names_are_shown_and_never_obeyed(text):
    report = Report(
        text,
        (
            Heading(text),
            Paragraph(text),
            Bullets((text,)),
            Table((text, "n"), ((text, text),), " ".join(text.split())),
            Picture(text, b"png", text),
        ),
    )
    reader = read(report.to_html())
    shown = " ".join(text.split())
    assert reader.text["h1"] == reader.text["h2"] == reader.text["li"] == [shown]
    assert reader.text["p"] == [shown] * 3
    assert reader.text["th"] == [shown, "n"] and reader.text["td"] == [shown, shown]
    (image,) = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert image["src"].startswith("data:") and image["alt"] == shown
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li"}
    allowed |= {"div", "table", "thead", "tbody", "tr", "th", "td", "img"}
    assert {tag for tag, _ in reader.tags} <= allowed


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1))
@settings(max_examples=150, deadline=None)
def test_any_text_comes_out_as_it_went_in(text):
    if not text.split():
        return
    reader = read(Report("title", (Paragraph(text), Table(("a",), ((text,),)))).to_html())
    assert " ".join(reader.text["p"]) == " ".join(text.split()) == " ".join(reader.text["td"])


def test_writing_gives_markdown_with_its_pictures_and_one_html_file(report, tmp_path):
    path = page.write(report, tmp_path / "new" / "folder")
    assert path.read_text(encoding="utf-8") == report.to_html()
    text = (path.parent / "report.md").read_text(encoding="utf-8")
    assert text == report.to_markdown()
    for name, png in report.pictures.items():
        assert f"]({name})" in text
        assert (path.parent / name).read_bytes() == png
    files = {p.relative_to(path.parent).as_posix() for p in path.parent.rglob("*") if p.is_file()}
    assert files == {"report.md", "report.html", *report.pictures}


def test_nothing_is_overwritten_unasked_and_then_nothing_is_written(report, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(FileError, match="already exists"):
        page.write(report, tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["report.html"]
    page.write(report, tmp_path, overwrite=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report.to_html()


def test_a_folder_that_cannot_be_written_is_an_error(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        page.write(report, tmp_path / "file")


def test_writing_twice_gives_the_same_bytes(report):
    assert report.to_html() == report.to_html()
