"""One file per layer family: which axis of which weight carries which units."""

import sys
from importlib import import_module

from keras_nns.graph.rules import (
    applications,
    attention,
    convolution,
    dense,
    elementwise,
    embedding,
    merging,
    normalization,
    op_algebra,
    op_attention,
    op_elementwise,
    op_regrouping,
    op_shaping,
    pooling,
    preprocessing,
    recurrent,
    shaping,
    wrappers,
)
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.elementwise import register_elementwise
from keras_nns.graph.rules.records import FIXED, Keep, Stream, Units
from keras_nns.graph.rules.registry import Rule, rule_of, rules, unfolds
from keras_nns.graph.rules.registry import rule as register

__all__ = [
    "FIXED",
    "Keep",
    "Rule",
    "Site",
    "Stream",
    "Units",
    "applications",
    "attention",
    "convolution",
    "dense",
    "elementwise",
    "embedding",
    "load_extras",
    "merging",
    "normalization",
    "op_algebra",
    "op_attention",
    "op_elementwise",
    "op_regrouping",
    "op_shaping",
    "pooling",
    "preprocessing",
    "recurrent",
    "register",
    "register_elementwise",
    "rule_of",
    "rules",
    "shaping",
    "unfolds",
    "wrappers",
]

KERAS_HUB = (
    *("embeddings", "encoders", "gemma", "gpt", "llama", "mixtures", "vision", "norms"),
    *("models", "sized_models", "llama_models"),
)
"""The modules with the rules of KerasHub's layers, one for each kin, and of its model classes."""


def load_extras() -> None:
    """Import the rules of other packages' layers, where the user has imported those packages."""
    if "keras_hub" in sys.modules:
        for kin in KERAS_HUB:
            import_module(f"keras_nns.graph.rules.keras_hub.{kin}")
