"""One file per layer family: which axis of which weight carries which units."""

from keras_nns.rules import (
    convolution,
    dense,
    elementwise,
    merging,
    normalization,
    pooling,
    shaping,
)
from keras_nns.rules.base import FIXED, Keep, Rule, Site, Stream, Units, rule_of, rules
from keras_nns.rules.base import rule as register_rule
from keras_nns.rules.elementwise import register_elementwise

__all__ = [
    "FIXED",
    "Keep",
    "Rule",
    "Site",
    "Stream",
    "Units",
    "convolution",
    "dense",
    "elementwise",
    "merging",
    "normalization",
    "pooling",
    "register_elementwise",
    "register_rule",
    "rule_of",
    "rules",
    "shaping",
]
