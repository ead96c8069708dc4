"""The page holds the record's own figures, its library, and nothing that a name smuggled in."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from surgery_records import LAYER, NAMES, small_record

import keras_nns as nns
from keras_nns.reporting import charts, explorer, interactive
from keras_nns.reporting.document import surgery_report
from keras_nns.selection.overlap import jaccard

pytestmark = pytest.mark.slow

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a browser makes of it: tags with their attributes, text and scripts."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.scripts = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        else:
            self.texts.append(data)

    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def record():
    return small_record()


@pytest.fixture(scope="module")
def data(record):
    return explorer.page_data(record)


@pytest.fixture(scope="module")
def html(record):
    pytest.importorskip("altair", reason="needs Altair: pip install 'keras-nns[page]'")
    pytest.importorskip("vl_convert", reason="needs vl-convert: pip install 'keras-nns[page]'")
    return interactive.interactive_html(surgery_report(record), record)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def kept(point, group, size):
    bits = np.frombuffer(base64.b64decode(point["kept"][group]), dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")[:size].astype(bool)


def test_points_are_the_networks_of_the_record_and_the_parent(record, data):
    assert [network["name"] for network in data["networks"]] == list(NAMES)
    for label, network in enumerate(data["networks"]):
        ways = [point["way"] for point in network["points"]]
        assert ways == ["two units a layer", "four units a layer", "the parent"]
        models = [record.subnetworks[label].model, record.further[label].model, record.parent]
        assert [p["parameters"] for p in network["points"]] == [m.count_params() for m in models]
        assert [p["chosen"] for p in network["points"]] == [True, False, False]
    assert data["size"] == "parameters"  # No file was made of any.


def test_kept_units_and_figures_are_those_of_the_plans_and_comparisons(record, data):
    sizes = {LAYER: 8, "two": 5}
    assert {group["name"]: group["size"] for group in data["groups"]} == sizes
    for label, network in enumerate(data["networks"]):
        for one, point in zip(
            (record.subnetworks[label], record.further[label]), network["points"], strict=False
        ):
            for group, size in sizes.items():
                found = np.flatnonzero(kept(point, group, size)).tolist()
                assert found == list(one.plan.kept[group])
            assert point["units"] == sum(len(units) for units in one.plan.kept.values())
            row = one.comparison.after[label]
            for name in ("recall", "specificity", "balanced_accuracy", "auc"):
                assert point[name] == pytest.approx(getattr(row, name), abs=1e-6)
        asked = record.subnetworks[label].comparison.before[label]
        assert network["points"][-1]["recall"] == pytest.approx(asked.recall, abs=1e-6)


def test_what_labels_share_can_be_read_off_the_kept_units(record, data):
    masks = [
        np.concatenate([kept(n["points"][0], g["name"], g["size"]) for g in data["groups"]])
        for n in data["networks"]
    ]
    expected = jaccard([one.plan for one in record.subnetworks])
    for a, one in enumerate(masks):
        for b, other in enumerate(masks):
            assert (one & other).sum() / (one | other).sum() == pytest.approx(expected[a, b])


@pytest.mark.parametrize("zeta", [0.0, 0.3, 0.45, 1.0])
def test_the_rule_on_the_page_is_the_papers(record, data, zeta):
    scores = {name: np.array(rows) for name, rows in data["rule"]["scores"].items()}
    plans = nns.select(record.activity, "each", score="mean_activation", keep=nns.above(zeta))
    for label, plan in enumerate(plans):
        for group, units in plan.kept.items():
            own = scores[group][label]
            assert np.flatnonzero(own >= zeta * own.max()).tolist() == list(units)


def test_the_activity_is_what_was_observed(record, data):
    layer = data["layers"][0]
    assert layer["name"] == layer["group"] == LAYER
    for key, values in (
        ("mean", record.activity.mean(LAYER)),
        ("firing", record.activity.firing_rate(LAYER)),
    ):
        np.testing.assert_allclose(layer["statistics"][key]["values"], values, rtol=1e-5)


def test_the_page_is_one_small_document_that_loads_nothing(html, page):
    assert len(html.encode()) < 3_000_000
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), (tag, name)
    assert not re.search(r"url\(|@import", html[: html.index("<script")])


def test_only_the_pages_own_scripts_may_run(page):
    (policy,) = [
        a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(running) == 2 and "src" not in page.scripts[-1][0]
    for script in running:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_names_are_text_and_end_no_script(record, page):
    stored = {a["id"]: text for a, text in page.scripts if a.get("type") == "application/json"}
    assert json.loads(stored["data"]) == json.loads(json.dumps(explorer.page_data(record)))
    assert "<" not in stored["data"] and "\u2028" not in stored["data"]
    assert len(page.scripts) == 4
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"b", "i", "script[1]", "iframe", "object", "link"}
    assert "Surgery on net->x" in page.texts


def test_every_part_has_its_place_and_every_link_leads_somewhere(page):
    ids = page.ids()
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        if tag == "a":
            assert attributes["href"].removeprefix("#") in ids
        if tag == "label" and "for" in attributes:
            assert attributes["for"] in ids
    for name in ("sizes", "strip", "units", "rule", "matrix", "overlap", "figures", "costs"):
        assert f"chart-{name}" in ids
    assert {"desk", "unit-map", "merged", "weights", "file-list"} <= set(ids)
    scripts = page.scripts[-1][1]
    asked = set(re.findall(r'find\("([\w-]+)"\)', scripts))
    assert asked <= set(ids), asked - set(ids)


def test_headlines_are_the_records_figures(record):
    cards = {name: (value, note) for name, value, note in interactive.headlines(record)}
    shares = [s.model.count_params() / record.parent.count_params() for s in record.subnetworks]
    assert cards["Size"][0] == f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %" or (
        min(shares) == max(shares) and cards["Size"][0] == f"{100 * min(shares):.1f} %"
    )
    worths = [s.comparison.after[i].balanced_accuracy for i, s in enumerate(record.subnetworks)]
    assert cards["Accuracy"][0] == f"{np.mean(worths):.3f}"
    assert cards["Proof"][0] == "5 of 5"
    assert cards["File"] == ("–", "no .tflite file was made")


def test_samples_on_the_page_are_those_that_excite(record, data):
    found = record.tiles
    image = np.asarray(Image.open(io.BytesIO(found.png)))
    width, height = found.size
    assert (width, height) == (6, 6)
    assert image.shape == (height * -(-len(found.labels) // found.columns), width * found.columns)
    assert data["tiles"]["count"] == len(found.labels)
    means = record.activity.maximum if "maximum" in record.activity.statistics else None
    assert means is None  # Only the mean was watched; the samples are found by themselves.
    for layer in (LAYER, "two"):
        rows = found.units[layer]
        fired = record.activity.firing_rate(layer).max(axis=0)
        assert [bool(row) for row in rows] == (fired > 0).tolist()


def test_without_the_library_the_page_stands_still_and_says_so(record, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    done = interactive.publish(record, tmp_path)
    assert "pip install 'keras-nns[page]'" in done.still
    text = done.path.read_text(encoding="utf-8")
    assert "stand still" in text and "<script" not in text
    assert text.count("data:image/png;base64,") == 11
    with pytest.raises(ImportError, match=r"keras-nns\[page\]"):
        charts.specifications()


def test_publishing_writes_the_page_and_markdown_beside_it(record, html, tmp_path):
    done = interactive.publish(record, tmp_path)
    assert done.still == "" and done.path.read_text(encoding="utf-8") == html
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown == surgery_report(record).to_markdown()
    assert "stand still" not in markdown


def test_much_is_left_out_and_counted(record, monkeypatch):
    monkeypatch.setattr(explorer, "_MOST_LABELS", 2)
    monkeypatch.setattr(explorer, "_MOST_NETWORKS", 3)
    monkeypatch.setattr(explorer, "_MOST_CELLS", 20)
    found = explorer.page_data(record)
    assert found["left_out"] == {"labels": 2, "layers": 1, "networks": 1}
    assert found["labels"] == list(NAMES[:2]) and len(found["layers"]) == 1
    assert all(len(rows) == 2 for rows in found["rule"]["scores"].values())


def test_a_record_without_much_still_makes_a_page(record, html):
    bare = dataclasses.replace(
        record, subnetworks=record.subnetworks[:1], merged=None, further=(), tiles=None, notes=()
    )
    page = Page(interactive.interactive_html(surgery_report(bare), bare))
    stored = next(t for a, t in page.scripts if a.get("id") == "data")
    found = json.loads(stored)
    assert found["merged"] is None and found["tiles"] is None and len(found["networks"]) == 1
