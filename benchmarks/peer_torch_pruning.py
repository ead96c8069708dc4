"""Torch-Pruning and this package on the same suite in one run: exact, wrong or crashed.

Each network has random weights, and half of every layer is removed: by Torch-Pruning as its
README and its examples do it, by this package with a random plan. Each result is then compared
with its own masked model: the same network at full size, the same units forced to zero behind
every layer that carries them. PyTorch computes in float64, so that rounding is never held against
it.

    pip install -e . torch==2.13.0 torch-pruning==1.6.1
    python benchmarks/peer_torch_pruning.py
"""

from __future__ import annotations

import argparse
import copy
import os
import warnings
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers, ops
from surgery_speed import half
from timing import machine

import keras_nns as nns
from keras_nns.surgery.proving import TOLERANCE

MISSING = ""
try:
    import torch
    import torch_nets
    import torch_pruning as tp
    from torch import nn
except ModuleNotFoundError as error:
    # --help works without.
    MISSING = f"{error}. pip install torch==2.13.0 torch-pruning==1.6.1"


@dataclass(frozen=True)
class Result:
    left: float = 1.0
    difference: float | None = None
    error: str = ""
    refused: str = ""

    def row(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        if self.error:
            return f"**crashed**: {self.error}"
        if self.left == 1:
            return "nothing was cut"
        left = f"{100 * self.left:.0f} % left"
        if self.difference <= TOLERANCE:
            return f"exact ({self.difference:.0e}; {left})"
        return f"**wrong** by {self.difference:.2g} of the output's scale ({left})"


# Torch-Pruning ------------------------------------------------------------------------------------


def randomise(net: nn.Module, x: torch.Tensor) -> None:
    """Give batch norms the statistics of their own inputs, and scales and offsets that count."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()
    with torch.no_grad():
        net(x)
    net.eval()


def prune(net: nn.Module, x: torch.Tensor) -> list[tuple[str, list[int]]]:
    """Prune a network in place; return which positions of which module's output were removed."""
    names = {module: name for name, module in net.named_modules()}
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    attentions = [m for m in net.modules() if isinstance(m, torch_nets.Attention)]
    pruner = tp.pruner.BasePruner(
        net,
        x,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[last],
        # As examples/transformers/prune_timm_vit.py: whole heads, told where the projections are.
        num_heads={attention.qkv: attention.num_heads for attention in attentions},
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=0.5,
    )
    removed = []
    for group in pruner.step(interactive=True):
        for dependency, positions in group:
            module = dependency.target.module
            if module in names and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                removed.append((names[module], list(positions)))
        group.prune()
    for attention in attentions:
        attention.num_heads = pruner.num_heads[attention.qkv]
        attention.head_dim = attention.qkv.out_features // (3 * attention.num_heads)
    return removed


def mask(net: nn.Module, removed: list[tuple[str, list[int]]]) -> nn.Module:
    """Force the removed positions to zero behind every module of a full-size copy."""
    modules = dict(net.named_modules())
    for name, positions in removed:
        module = modules[name]
        axis = 1 if isinstance(module, nn.Conv2d | nn.BatchNorm2d) else -1

        def zero(_, __, output, axis=axis, positions=positions):
            first = output[0] if isinstance(output, tuple) else output
            keep = torch.ones(first.shape[axis], dtype=first.dtype)
            keep[positions] = 0
            shape = [1] * first.ndim
            shape[axis] = -1
            masked = first * keep.reshape(shape)
            return (masked, *output[1:]) if isinstance(output, tuple) else masked

        module.register_forward_hook(zero)
        if isinstance(module, nn.LSTM | nn.GRU):
            with torch.no_grad():
                module.weight_hh_l0[:, positions] = 0
    return net


def try_torch(name: str) -> Result:
    torch.manual_seed(0)
    build, shape = torch_nets.NETS[name]
    try:
        x = torch.randn(8, *shape, dtype=torch.float64)
        net = build().double()
        randomise(net, x)
        whole = copy.deepcopy(net)
        removed = prune(net, x)
        count = [sum(p.numel() for p in n.parameters()) for n in (net, whole)]
        with torch.no_grad():
            found, expected = net(x), mask(whole, removed)(x)
        difference = float((found - expected).abs().max() / expected.abs().max())
        return Result(count[0] / count[1], difference)
    except Exception as error:  # what is measured is whether it raises
        return Result(error=f"{type(error).__name__}: {' '.join(str(error).split())[:90]}")


# This package -------------------------------------------------------------------------------------


def keras_resnet18():
    x = start = keras.Input((64, 64, 3))
    x = layers.Conv2D(64, 7, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage in range(4):
        for number in range(2):
            width, stride = 64 * 2**stage, 2 if stage and not number else 1
            y = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
            y = layers.BatchNormalization()(y)
            if stride == 2:
                x = layers.Conv2D(width, 1, stride, use_bias=False)(x)
                x = layers.BatchNormalization()(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(start, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))


def keras_shuffle():
    def conv(x, width, kernel=1, stride=1):
        x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    start = keras.Input((64, 64, 3))
    x = conv(start, 32, 3, 2)
    for _ in range(2):
        one, other = ops.split(x, 2, axis=-1)
        y = conv(other, 16)
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        y = conv(layers.BatchNormalization()(y), 16)
        x = ops.reshape(ops.concatenate([one, y], -1), (-1, 32, 32, 2, 16))
        x = ops.reshape(ops.swapaxes(x, 3, 4), (-1, 32, 32, 32))
    x = layers.GlobalAveragePooling2D()(conv(x, 64))
    return keras.Model(start, layers.Dense(7)(x))


def keras_layer_norm():
    x = start = keras.Input((16,))
    for width in (48, 32):
        x = layers.LayerNormalization()(layers.Dense(width)(x))
        x = layers.Activation("gelu")(x)
    return keras.Model(start, layers.Dense(7)(x))


def keras_recurrent(kind):
    start = keras.Input((6, 8))
    x = kind(32)(layers.Dense(32, activation="relu")(start))
    return keras.Model(start, layers.Dense(7)(layers.Dense(16, activation="relu")(x)))


def keras_attention():
    start = keras.Input((6, 8))
    x = layers.Dense(32)(start)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 8)(x, x)])
    x = layers.Add()([x, layers.Dense(32)(layers.Dense(64, activation="relu")(x))])
    return keras.Model(start, layers.Dense(7)(layers.GlobalAveragePooling1D()(x)))


def application(name: str):
    return getattr(keras.applications, name)(
        weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None
    )


NETS = {
    "ResNet18": keras_resnet18,
    "ResNet50": lambda: application("ResNet50"),
    "MobileNetV2": lambda: application("MobileNetV2"),
    "DenseNet121": lambda: application("DenseNet121"),
    "channel shuffle": keras_shuffle,
    "LayerNorm": keras_layer_norm,
    "LSTM": lambda: keras_recurrent(layers.LSTM),
    "GRU": lambda: keras_recurrent(layers.GRU),
    "attention": keras_attention,
}


def settle(model: keras.Model, x: np.ndarray) -> None:
    """Do what `randomise` does."""
    random = np.random.default_rng(0)
    norms = []
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization | layers.LayerNormalization):
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(random.normal(0, 0.3, layer.beta.shape))
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
            norms.append(layer)
    model(x, training=True)
    for norm in norms:
        norm.momentum = 0.99


def try_keras(name: str) -> Result:
    keras.utils.set_random_seed(0)
    try:
        # Lets features leave layer normalisations exactly; other networks come back as they are.
        model = nns.unfold(NETS[name](), normalizations=True)
        x = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:])).astype("float32")
        settle(model, x)
        plan = half(model)
        small = nns.cut(model, plan)
        proof = nns.prove(model, plan, samples=x)
        return Result(small.count_params() / model.count_params(), proof.relative)
    except nns.NNSError as error:
        return Result(refused=" ".join(str(error).split())[:150])
    except Exception as error:  # what is measured is whether it raises
        return Result(error=f"{type(error).__name__}: {' '.join(str(error).split())[:90]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", default=NETS, choices=NETS)
    args = parser.parse_args()
    if MISSING:
        raise SystemExit(MISSING)
    # What the peer deprecates is nothing to report.
    warnings.simplefilter("ignore")
    print(f"{machine()}, PyTorch {torch.__version__}, Torch-Pruning {tp.__version__}\n")
    print("| network | this package | Torch-Pruning |\n| --- | --- | --- |")
    for name in args.nets:
        keras.backend.clear_session()
        print(f"| {name} | {try_keras(name).row()} | {try_torch(name).row()} |", flush=True)


if __name__ == "__main__":
    main()
