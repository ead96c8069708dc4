"""Every architecture of `keras.applications`, built so that differences show, and measured."""

from __future__ import annotations

import inspect
import math
from typing import Any

import keras
import numpy as np
from keras import applications
from seeding import seed_all
from shallow_applications import application

from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.cutting import cut, mask

SHARES = (0.1, 0.5, 0.9)

# Smallest sides their pooling leaves something of, in pixels. At 32 the last stage of a ResNet is
# one pixel, and statistics of so few numbers amplify float32 rounding to 2e-5 (float64: 2e-14); the
# deepest do so at 64 still, and NASNetLarge at 32.
SIDES = {
    "ResNet152": 96,
    "NASNetLarge": 64,
    "ResNet": 64,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "Xception": 71,
    "NASNet": 32,
    "VGG": 32,
}
EVERY_SHARE = ("MobileNetV2",)
# One of every family runs with the tests; KERAS_NNS_ALL_APPLICATIONS=1 runs them all, whole.
FAMILIES = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionV3",
    "MobileNet",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
)


def architectures() -> list[str]:
    """Name every function of `keras.applications` that builds a model."""
    return sorted(
        name
        for name, value in vars(applications).items()
        if inspect.isfunction(value) and "weights" in inspect.signature(value).parameters
    )


def build(name: str, *, shallow: bool = False) -> Any:
    """Build an architecture on its smallest input, with statistics worth dividing by."""
    side = next((n for prefix, n in SIDES.items() if name.startswith(prefix)), 32)
    seed_all(0)
    model = application(
        name,
        shallow=shallow,
        # Without a softmax at the end, which would make small differences smaller still.
        weights=None,
        input_shape=(side, side, 3),
        classes=7,
        classifier_activation=None,
    )
    random = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "LayerScale":
            # It starts at 1e-6, which would hide what its block computes.
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
        for variable in layer.variables if not isinstance(layer, keras.Model) else ():
            if variable.name == "gamma":
                # Residual branches weaker than their stream keep rounding from growing.
                variable.assign(random.uniform(0.1, 0.3, variable.shape))
            elif variable.name in ("beta", "bias"):
                variable.assign(random.normal(0, 0.1, variable.shape))
            elif variable.name in ("kernel", "pointwise_kernel", "depthwise_kernel"):
                # Some start at a deviation of 0.02, which hides their blocks just as well.
                depthwise = "Depthwise" in type(layer).__name__ or "depth" in variable.name
                fan = np.prod(variable.shape[: -2 if depthwise else -1])
                variable.assign(random.normal(0, np.sqrt(1.5 / fan), variable.shape))
    _settle(model, random)
    return model


def images(model: Any, count: int, random: np.random.Generator) -> Any:
    """Make images that differ from one another as photographs do: in patches, not in noise."""
    side = model.input_shape[1]
    patches = random.uniform(0, 255, (count, 4, 4, 3)) * random.uniform(0.2, 1, (count, 1, 1, 3))
    return np.kron(patches, np.ones((1, -(-side // 4), -(-side // 4), 1)))[:, :side, :side].astype(
        "float32"
    )


def _settle(model: Any, random: np.random.Generator) -> None:
    """Give batch normalisations the statistics of their own inputs.

    With other statistics a hundred layers amplify float32 rounding as much as anything else.
    """
    norms = [n for n in model._flatten_layers() if isinstance(n, keras.layers.BatchNormalization)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images(model, 16, random), training=True)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value


def random_plan(graph: Any, share: float, seed: int) -> Plan:
    """Keep about a share of every group, and at least one unit of every layer in it."""
    random = np.random.default_rng(seed)
    kept = {}
    for group in graph.layout.prunable:
        count = max(group.least, math.ceil(share * group.size))
        chosen = set(random.permutation(group.size)[:count].tolist())
        for need in group.needs:
            if chosen.isdisjoint(need):
                chosen.add(int(random.choice(need)))
        kept[group.name] = tuple(chosen)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return Plan(graph.fingerprint, sizes=sizes, kept=kept)


def measure(
    name: str, shares: tuple[float, ...] = SHARES, *, shallow: bool = False
) -> dict[str, Any]:
    """Trace an architecture, cut it to each share, and compare with its mask.

    Returns:
        Units, units that may go, and for each share: the largest difference, what the plan changes
        in the parent's answers, and the answers' spread over images, all relative to the scale of
        the output; and the share of parameters that is left.
    """
    model = build(name, shallow=shallow)
    graph = trace(model)
    groups = graph.layout.groups
    x = images(model, 2, np.random.default_rng(1))
    whole = np.asarray(model(x, training=False), np.float64)
    result: dict[str, Any] = {
        "units": sum(group.size for group in groups),
        "free": sum(group.size - len(group.protected) for group in groups),
        "groups": len(groups),
        "shares": {},
    }
    for seed, share in enumerate(shares):
        plan = random_plan(graph, share, seed)
        small = cut(model, plan)
        expected = np.asarray(mask(model, plan)(x, training=False), np.float64)
        scale = np.abs(expected).max()
        result["shares"][str(share)] = {
            "difference": float(np.abs(small(x, training=False) - expected).max() / scale),
            "effect": float(np.abs(whole - expected).max() / np.abs(whole).max()),
            "spread": float(np.ptp(expected, axis=0).max() / scale),
            "parameters": small.count_params() / model.count_params(),
        }
    return result
