"""Cut the rows of an embedding down to the tokens that are needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import layers

from keras_nns.errors import PlanError, SurgeryError
from keras_nns.graph.keras_internals import room_for
from keras_nns.graph.partial_layers import PartialEmbedding
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, trace
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.lineage import lineage, set_lineage
from keras_nns.surgery.rebuilding import Rebuilder

_KINDS = (layers.Embedding, PartialEmbedding)


def keep_tokens(model: Any, tokens: Iterable[int], *, layer: str | None = None) -> Any:
    """Cut the vocabulary of an embedding down to the tokens that are needed.

    The new model takes the same token numbers. For texts of the tokens that stay it answers what
    the parent answers; a token that was cut reads as a vector of zeros, as if its row had been
    masked. Which dimensions stay is another question, and a plan's: `cut` can go before or after.

    Args:
        model: A Sequential or functional model. It is not changed.
        tokens: The token numbers that stay, in any order. Give those of padding, of the start and
            of unknown words too, where the text is prepared with them.
        layer: Path of the Embedding, where the model has several.

    Returns:
        A `keras.Model` with a `PartialEmbedding`. A `.keras` file of it is read where this package
        is imported.

    Raises:
        PlanError: No token is named, one is no number of the vocabulary, or no such layer exists.
        SurgeryError: The layer is quantised or carries LoRA factors.

    Example:
        >>> small = nns.keep_tokens(lm, range(20))
        >>> lm.count_params() - small.count_params()  # 20 of 40 tokens, 16 numbers each
        320
    """
    graph = trace(model)
    path, embedding = embedding_of(graph, layer)
    if embedding.lora_enabled or embedding.quantization_mode is not None:
        raise SurgeryError(
            f"Embedding {path!r} is quantised or carries LoRA factors. Merge those, or cut first "
            "and quantise the smaller model."
        )
    held = embedding.tokens if type(embedding) is PartialEmbedding else range(embedding.input_dim)
    kept = _checked(tokens, held, path)
    # Tokens are units of their own here, numbered behind those of the graph.
    rows = np.arange(len(held), dtype=np.int64) + graph.unit_count
    stays = np.append(np.ones(graph.unit_count, dtype=bool), np.isin(held, kept))
    (table,) = (
        index for index, one in enumerate(embedding.variables) if one is embedding._embeddings
    )
    blueprint = graph.blueprints[id(embedding)]
    blueprint.bindings[table].axes[0] = rows
    config = {**embedding.get_config(), "tokens": [token for token in held if token in kept]}
    blueprint.make = lambda _: (PartialEmbedding, config)
    with room_for(len(graph.calls)):
        new = Rebuilder(graph, Keep(stays)).run()
    carry_compile_settings(model, new)
    record = lineage(model)
    if record is not None:
        set_lineage(new, record)
    return new


def embedding_of(
    graph: Graph, layer: str | None, kinds: tuple[type, ...] = _KINDS
) -> tuple[str, Any]:
    """Return the path of the embedding that is meant, and the layer.

    Args:
        graph: The traced model.
        layer: Its path, where the model has several.
        kinds: Which types of layers count as embeddings of tokens.

    Raises:
        PlanError: There is none, or it is not said which.
    """
    calls = [traced.call for traced in graph.calls.values()]
    found: dict[str, Any] = {}
    for call in calls:
        # One that also scores tokens is called twice, and has the path of its first call.
        if type(call.operation) in kinds and all(call.operation is not f for f in found.values()):
            found[call.path] = call.operation
    if layer is None and len(found) == 1:
        return next(iter(found.items()))
    if layer not in found:
        received = "no layer" if layer is None else repr(layer)
        raise PlanError(
            f"Say which Embedding loses tokens, as layer=…, one of {list(found)}. Received: "
            f"{received}."
        )
    return layer, found[layer]


def _checked(tokens: Iterable[int], held: Iterable[int], path: str) -> list[int]:
    given = np.asarray(list(tokens))
    if given.size == 0 or not np.issubdtype(given.dtype, np.integer):
        raise PlanError(f"Expected the numbers of the tokens to keep. Received: {given[:10]!r}.")
    kept = set(given.ravel().tolist())
    foreign = sorted(kept.difference(held))
    if foreign:
        raise PlanError(f"Embedding {path!r} has no tokens {foreign[:10]}.")
    return sorted(kept)
