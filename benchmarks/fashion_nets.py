"""A small residual network for Fashion-MNIST, and its twin in PyTorch for Torch-Pruning."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers

WIDTHS = {"stem": 16, "one": 16, "two": 32, "two_inner": 32, "three": 64, "three_inner": 64}
"""Channels of what shares them: residual stages `stem`, `two`, `three`, and inside their blocks."""

# Name, whose channels it reads, whose it makes, kernel, stride.
CONVOLUTIONS = (
    ("stem", None, "stem", 3, 2),
    ("one_a", "stem", "one", 3, 1),
    ("one_b", "one", "stem", 3, 1),
    ("two_a", "stem", "two_inner", 3, 2),
    ("two_b", "two_inner", "two", 3, 1),
    ("two_c", "stem", "two", 1, 2),
    ("three_a", "two", "three_inner", 3, 2),
    ("three_b", "three_inner", "three", 3, 1),
    ("three_c", "two", "three", 1, 2),
)
MADE_BY = {"stem": "stem", "one": "one_a", "two": "two_b", "two_inner": "two_a"}
MADE_BY |= {"three": "three_b", "three_inner": "three_a"}


def network(
    widths: Mapping[str, int] = WIDTHS, *, answers: int = 10, momentum: float = 0.99
) -> keras.Model:
    """Build it: a stem and three residual blocks with batch norms, 28×28 pixels in."""
    made = {
        name: (widths[whose], kernel, stride) for name, _, whose, kernel, stride in CONVOLUTIONS
    }

    def conv(x, name):
        width, kernel, stride = made[name]
        x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=False, name=name)(x)
        return layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)

    def block(x, name):
        y = conv(layers.ReLU()(conv(x, f"{name}_a")), f"{name}_b")
        x = conv(x, f"{name}_c") if f"{name}_c" in made else x
        return layers.ReLU()(layers.Add()([x, y]))

    start = keras.Input((28, 28, 1))
    x = layers.ReLU()(conv(start, "stem"))
    for name in ("one", "two", "three"):
        x = block(x, name)
    x = layers.GlobalAveragePooling2D()(x)
    last = "sigmoid" if answers == 1 else "softmax"
    return keras.Model(start, layers.Dense(answers, activation=last, name="answer")(x))


def size(widths: Mapping[str, int], answers: int = 10) -> int:
    """Count the parameters of `network(widths)` without building it."""
    total = (widths["three"] + 1) * answers
    for _, reads, makes, kernel, _ in CONVOLUTIONS:
        before = 1 if reads is None else widths[reads]
        total += widths[makes] * (kernel**2 * before + 4)
    return total


# Torch-Pruning ------------------------------------------------------------------------------------


def twin(model: keras.Model):
    """Copy the Keras network, weights and all, into PyTorch; it gives log-probabilities."""
    import torch
    from torch import nn
    from torch.nn import functional

    def pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    # Known beforehand, so that what traces the network meets no numbers taken from a tensor.
    sides = {None: 28, "stem": 14, "one": 14, "two": 7, "two_inner": 7, "three_inner": 4}

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.padding = {}
            for name, reads, makes, kernel, stride in CONVOLUTIONS:
                before = 1 if reads is None else WIDTHS[reads]
                conv = nn.Conv2d(before, WIDTHS[makes], kernel, stride, bias=False)
                norm = nn.BatchNorm2d(WIDTHS[makes], eps=1e-3)
                kernel_ = model.get_layer(name).kernel.numpy().transpose(3, 2, 0, 1)
                gamma, beta, mean, variance = model.get_layer(f"{name}_norm").get_weights()
                with torch.no_grad():
                    conv.weight.copy_(torch.from_numpy(kernel_.copy()))
                    for own, theirs in (
                        (norm.weight, gamma),
                        (norm.bias, beta),
                        (norm.running_mean, mean),
                        (norm.running_var, variance),
                    ):
                        own.copy_(torch.from_numpy(theirs))
                self.padding[name] = pads(sides[reads], kernel, stride) * 2
                self.add_module(name, conv)
                self.add_module(f"{name}_norm", norm)
            self.answer = nn.Linear(WIDTHS["three"], 10)
            with torch.no_grad():
                kernel_, bias = model.get_layer("answer").get_weights()
                self.answer.weight.copy_(torch.from_numpy(kernel_.T.copy()))
                self.answer.bias.copy_(torch.from_numpy(bias))
            self.pool = nn.AdaptiveAvgPool2d(1)

        def conv(self, x, name):
            x = functional.pad(x, self.padding[name])
            return getattr(self, f"{name}_norm")(getattr(self, name)(x))

        def forward(self, x):
            x = functional.relu(self.conv(x, "stem"))
            for name in ("one", "two", "three"):
                y = functional.relu(self.conv(x, f"{name}_a"))
                y = self.conv(y, f"{name}_b")
                x = self.conv(x, f"{name}_c") if hasattr(self, f"{name}_c") else x
                x = functional.relu(x + y)
            return functional.log_softmax(self.answer(self.pool(x).flatten(1)), dim=1)

    return Twin().eval()


def accumulate(net, x: np.ndarray, y: np.ndarray, labels: Sequence[int]) -> None:
    """Leave in a twin the gradients of the loss of "which of the labels, or another".

    Every answer weighs alike, so that one label is not lost among nine.
    """
    import torch

    rest = [label for label in range(10) if label not in labels]
    truth = np.full(len(y), len(labels))
    for place, label in enumerate(labels):
        truth[y == label] = place
    weights = 1 / np.bincount(truth)[truth] / (len(labels) + 1)
    net.zero_grad()
    for start in range(0, len(x), 500):
        part = slice(start, start + 500)
        given = net(torch.from_numpy(x[part].transpose(0, 3, 1, 2).copy()))
        answers = torch.cat(
            [given[:, list(labels)], torch.logsumexp(given[:, rest], dim=1, keepdim=True)], dim=1
        )
        said = answers[torch.arange(len(answers)), torch.from_numpy(truth[part])]
        (-said * torch.from_numpy(weights[part].astype("float32"))).sum().backward()


def pruned(net, ratio: float, *, everywhere: bool):
    """Prune a copy of a twin by Torch-Pruning's Taylor criterion, as its README does.

    Args:
        net: A twin with gradients.
        ratio: Share of the channels to remove.
        everywhere: Compare channels over the whole network, not within layers.

    Returns:
        The pruned network, and which channels of each convolution are left.
    """
    import torch
    import torch_pruning as tp

    small = copy.deepcopy(net)
    for own, theirs in zip(small.parameters(), net.parameters(), strict=True):
        own.grad = theirs.grad.clone()
    names = {module: name for name, module in small.named_modules()}
    left = {name: np.arange(WIDTHS[makes]) for name, _, makes, _, _ in CONVOLUTIONS}
    pruner = tp.pruner.BasePruner(
        small,
        torch.zeros(1, 1, 28, 28),
        importance=tp.importance.GroupTaylorImportance(),
        global_pruning=everywhere,
        pruning_ratio=ratio,
        ignored_layers=[small.answer],
    )
    for group in pruner.step(interactive=True):
        for dependency, positions in group:
            name = names.get(dependency.target.module)
            if name in left and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                left[name] = np.delete(left[name], list(positions))
        group.prune()
    return small, left
