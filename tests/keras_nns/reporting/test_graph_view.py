"""Graphs for Model Explorer: what they say of a cut is what the cut model is."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns.errors import FileError, PlanError, SurgeryError
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan

layers = keras.layers


@pytest.fixture(scope="module")
def model():
    """A nested model with a residual block, a batch norm and a layer that is called twice."""
    inputs = keras.Input((6, 6, 3), name="picture")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.Conv2D(5, 1, activation="relu", name="inner")(x)
    x = layers.Add(name="join")([x, layers.Conv2D(6, 1, name="outer")(y)])
    body = keras.Model(inputs, x, name="body")
    start = keras.Input((6, 6, 3), name="start")
    twice = layers.ReLU(name="twice")
    x = layers.GlobalAveragePooling2D(name="pool")(twice(body(twice(start))))
    return keras.Model(start, layers.Dense(3, activation="softmax", name="answer")(x), name="net")


def plan_of(model, label=1, **kept):
    groups = {group.name: group for group in trace(model).layout.prunable}
    sizes = {name: group.size for name, group in groups.items()}
    stays = {name: tuple(range(size)) for name, size in sizes.items()}
    stays |= {f"body/{name}": units for name, units in kept.items()}
    names = ("ant", "bee", "cow")
    return Plan(nns.fingerprint(model), sizes, stays, labels=(label,), label_names=names)


def nodes(graph):
    return {node["id"]: node for node in graph["nodes"]}


def told(node):
    return {item["key"]: item["value"] for item in node["attrs"]}


def layers_of(model):
    """Yield all layers with weights by path."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            for inner in layer.layers:
                yield f"{layer.name}/{inner.name}", inner
        yield layer.name, layer


def test_layers_have_what_the_cut_model_has(model):
    plan = plan_of(model, stem=(0, 2, 5), inner=(1, 2))
    small = nns.cut(model, plan, prove=True)
    view = nns.graph_view(model, small, plan_of(model))
    own, cut = dict(layers_of(model)), dict(layers_of(small))
    assert view.names == ("bee", "bee (2)")
    for layer in view.layers:
        assert layer.parameters == layer.left[1] == own[layer.path].count_params()
        assert layer.left[0] == cut[layer.path].count_params()
        assert layer.kept[1] == layer.units
    assert sum(layer.left[0] for layer in view.layers) == small.count_params()
    parent, child = view.graphs
    assert parent["groupNodeAttributes"][""]["bee: parameters"] == f"{small.count_params():,}"
    stem = told(nodes(parent)["body/stem"])
    assert (stem["units in bee"], stem["removed in bee"]) == ("3", "1, 3–4")
    assert (stem["kernel"], stem["kernel in bee"]) == ("3 × 3 × 3 × 6", "3 × 3 × 3 × 3")
    assert told(nodes(child)["body/stem_bn"])["units of net"] == "0, 2, 5"
    assert nodes(parent)["body/inner"]["label"] == "inner 5 → 2, 5"
    assert "protected because" in told(nodes(parent)["answer"])


def test_edges_are_those_of_the_graph(model):
    graph = nodes(nns.graph_view(model, plan_of(model, inner=(0,))).graphs[0])
    edges = {
        (edge["sourceNodeId"], name)
        for name, node in graph.items()
        for edge in node["incomingEdges"]
    }
    # By hand, from how the model is written down.
    assert edges == {
        ("start", "twice"),
        ("twice", "body/stem"),
        ("body/stem", "body/stem_bn"),
        ("body/stem_bn", "body/stem_relu"),
        ("body/stem_relu", "body/inner"),
        ("body/inner", "body/outer"),
        ("body/stem_relu", "body/join"),
        ("body/outer", "body/join"),
        ("body/join", "twice (2)"),
        ("twice (2)", "pool"),
        ("pool", "answer"),
    }
    assert graph["body/stem"]["namespace"] == "body"
    shape = graph["body/join"]["outputsMetadata"][0]["attrs"][0]
    assert shape == {"key": "shape", "value": "? × 6 × 6 × 6"}


def test_marks_are_seen_and_explained(model):
    plan = plan_of(model, inner=(), stem=(0, 1, 2, 3, 4))
    lean = nns.cut(model, plan, allow_empty=True)
    parent, child = nns.graph_view(model, lean, names=["lean"]).graphs
    graph = nodes(parent)
    colours = {
        node["label"]: node["style"]["backgroundColor"]
        for node in graph.values()
        if node["namespace"] == "colours"
    }
    assert len(set(colours.values())) == 5
    assert graph["body/inner"]["label"] == "inner 5 → 0"
    assert graph["body/inner"]["style"]["backgroundColor"] == colours["all removed"]
    assert graph["body/stem"]["style"]["backgroundColor"] == colours["up to a third removed"]
    assert graph["answer"]["style"]["backgroundColor"] == colours["no unit removed"]
    assert "body/inner" not in nodes(child)
    # Model Explorer shows the largest graph first.
    assert len(parent["nodes"]) > len(child["nodes"])


def test_a_head_of_its_own_is_shown(model):
    plan = plan_of(model, inner=(0, 1))
    small = nns.cut(model, plan | plan_of(model, 2), head="labels")
    view = nns.graph_view(model, small)
    assert view.names == ("bee, cow",)
    assert view.layers[-1].kept == (2,)
    assert view.layers[-1].left == (small.get_layer("answer").count_params(),)


def test_the_file_is_what_model_explorer_reads(model, tmp_path):
    view = nns.graph_view(model, nns.cut(model, plan_of(model, inner=(0,)), head="binary"))
    path = view.save(tmp_path / "cut.json")
    data = json.loads(path.read_text())
    assert [graph["id"] for graph in data["graphs"]] == ["net", "bee"]
    with pytest.raises(FileError, match="exists"):
        view.save(path)
    with pytest.raises(FileError, match=r"\.json"):
        view.save(tmp_path / "cut.txt")
    builder = pytest.importorskip(
        "model_explorer.graph_builder", reason="needs Model Explorer: ai-edge-model-explorer"
    )
    parts = {
        "graphs": builder.Graph,
        "nodes": builder.GraphNode,
        "attrs": builder.KeyValue,
        "incomingEdges": builder.IncomingEdge,
        "outputsMetadata": builder.MetadataItem,
        "style": builder.GraphNodeStyle,
    }

    def known(kind, found):
        assert set(found) <= {field.name for field in dataclasses.fields(kind)}
        for key, value in found.items():
            for part in value if isinstance(value, list) else [value]:
                if key in parts:
                    known(parts[key], part)

    known(builder.GraphCollection, data)


def test_wrong_use(model):
    plan = plan_of(model)
    with pytest.raises(SurgeryError, match="at least one"):
        nns.graph_view(model)
    with pytest.raises(SurgeryError, match="does not remember"):
        nns.graph_view(model, model)
    with pytest.raises(PlanError, match="2 different names"):
        nns.graph_view(model, plan, plan, names=["a", "a"])
    other = keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.Dense(2)])
    with pytest.raises(PlanError, match="another model"):
        nns.graph_view(other, plan)


def test_many_numbers_are_cut_short():
    from keras_nns.reporting.graph_nodes import numbers

    assert numbers([]) == "none"
    assert numbers(np.array([0, 1, 2, 7])) == "0–2, 7"
    long = numbers(range(0, 1000, 2))
    assert len(long) < 410
    assert long.endswith(", …")
