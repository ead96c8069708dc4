"""Models with fewer tokens: of KerasHub by their class, all others by their graph."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from keras import layers

from keras_nns.errors import SurgeryError
from keras_nns.graph.keras_internals import room_for
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.heads import Answer, answer_of
from keras_nns.surgery.lineage import Head, Lineage, lineage
from keras_nns.surgery.rebuilding import Rebuilder
from keras_nns.surgery.vocabulary import embedding_of

_KINDS = (layers.Embedding, layers.ReversibleEmbedding)


def vocabulary_of(model: Any, layer: str | None = None) -> tuple[int, Any]:
    """Return how many tokens a model knows, and its tokenizer, or None where it has none.

    Args:
        model: A model.
        layer: Path of the embedding of tokens, where a functional model has several.

    Raises:
        ModelError: The model has no graph to read.
        PlanError: It looks no tokens up, or it is not said where.
        SurgeryError: Its class is told of tokens in ways that are not known.
    """
    hub = _hub()
    if hub is not None and hub.is_hub(model):
        size, tokenizer = hub.vocabulary(model)
        return size, tokenizer
    return int(embedding_of(trace(model), layer, _KINDS)[1].input_dim), None


def padding_of(model: Any, size: int) -> set[int]:
    """Return the tokens that a model takes for padding by their number: 0, or none."""
    masks = any(
        isinstance(layer, layers.Embedding) and layer.mask_zero and layer.input_dim == size
        for layer in model._flatten_layers()
    )
    return {0} if masks else set()


def with_tokens(
    model: Any, kept: Sequence[int], tokenizer: Any, layer: str | None
) -> tuple[Any, Lineage]:
    """Build a model that knows some of the tokens, numbered anew in their order.

    Args:
        model: The user's. It is not changed.
        kept: Numbers of the tokens that stay, rising.
        tokenizer: The tokenizer cut alike, for the preprocessor of a task that has one.
        layer: Path of the embedding of tokens, where a functional model has several.

    Returns:
        The model, compiled as the user's is, and what it remembers.

    Raises:
        SurgeryError: Something in the model stands in the way, which the message names.
    """
    graph = trace(model)
    plan = _whole(graph)
    hub = _hub()
    if hub is not None and hub.is_hub(model):
        new = hub.smaller(model, kept, tokenizer)
        answer = answer_of(graph, plan, "parent", None)
    else:
        new, answer = _by_graph(graph, plan, kept, layer)
    carry_compile_settings(model, new, answer)
    record = lineage(model) or Lineage(
        plan, answer.head, answer.labels, answer.label_names, answer.output
    )
    return new, record


def _hub() -> Any:
    if "keras_hub" not in sys.modules:
        return None
    return import_module("keras_nns.surgery.tokens.hub_models")


def _whole(graph: Graph) -> Plan:
    """Return the plan that keeps every unit."""
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return Plan(
        graph.fingerprint, sizes, {name: tuple(range(size)) for name, size in sizes.items()}
    )


def _by_graph(
    graph: Graph, plan: Plan, kept: Sequence[int], layer: str | None
) -> tuple[Any, Answer]:
    path, embedding = embedding_of(graph, layer, _KINDS)
    if getattr(embedding, "lora_enabled", False) or embedding.quantization_mode is not None:
        raise SurgeryError(
            f"Embedding {path!r} is quantised or carries LoRA factors. Merge those, or cut first "
            "and quantise the smaller model."
        )
    size = embedding.input_dim
    # One that scores tokens by its own table answers fewer by itself; a Dense has to lose units.
    scoring = type(embedding) is layers.Embedding and any(
        output.size == size for output in graph.outputs
    )
    head: Head = "labels" if scoring else "parent"
    name = next((o.name for o in graph.outputs if o.size == size), None) if scoring else None
    told = Plan(plan.fingerprint, plan.sizes, plan.kept, labels=tuple(kept)) if scoring else plan
    answer = answer_of(graph, told, head, name)
    keep = graph.keep(plan, outputs=answer.narrowed)
    # Tokens are units of their own here, numbered behind those of the graph.
    rows = np.arange(size, dtype=np.int64) + graph.unit_count
    units = keep.mask(np.arange(graph.unit_count))
    stays = np.append(units, np.isin(np.arange(size), np.asarray(kept)))
    blueprint = graph.blueprints[id(embedding)]
    for index, variable in enumerate(embedding.variables):
        if variable is embedding._embeddings:
            blueprint.bindings[index].axes[0] = rows
        elif variable is getattr(embedding, "reverse_embeddings", None):
            blueprint.bindings[index].axes[1] = rows
    blueprint.edits[("input_dim",)] = lambda keep: keep.count(rows)
    with room_for(len(graph.calls)):
        return Rebuilder(graph, Keep(stays)).run(), answer
