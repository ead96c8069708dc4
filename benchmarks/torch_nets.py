"""The suite of `peer_torch_pruning.py` in PyTorch: compact forms of the published architectures."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CLASSES = 7


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1):
    """Convolution and batch norm, as all of them use."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """He et al. 2015: two 3x3 convolutions, or a bottleneck of 1x1, 3x3, 1x1."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            parts = [conv(inputs, width, 1), conv(width, width, 3, stride), conv(width, outputs, 1)]
        else:
            parts = [conv(inputs, width, 3, stride), conv(width, outputs)]
        self.parts = nn.ModuleList(parts)
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        y = x
        for part in self.parts[:-1]:
            y = functional.relu(part(y))
        return functional.relu(self.parts[-1](y) + self.short(x))


def resnet(blocks: list[int], bottleneck: bool):
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage and not number else 1
            layers.append(Residual(inputs, 64 * 2**stage, stride, bottleneck))
            inputs = 64 * 2**stage * (4 if bottleneck else 1)
    return nn.Sequential(*layers, *head(inputs))


def head(inputs: int):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)


class Inverted(nn.Module):
    """Sandler et al. 2018: widen, depthwise, narrow."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int):
        super().__init__()
        wide = inputs * factor
        parts = [conv(inputs, wide, 1), nn.ReLU6()] if factor > 1 else []
        parts += [conv(wide, wide, 3, stride, groups=wide), nn.ReLU6(), conv(wide, outputs, 1)]
        self.body = nn.Sequential(*parts)
        self.same = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.same else self.body(x)


def mobilenet_v2():
    layers: list[nn.Module] = [conv(3, 32, 3, 2), nn.ReLU6()]
    inputs = 32
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
             (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip
    for factor, outputs, count, stride in table:
        for number in range(count):
            layers.append(Inverted(inputs, outputs, 1 if number else stride, factor))
            inputs = outputs
    return nn.Sequential(*layers, conv(320, 1280, 1), nn.ReLU6(), *head(1280))


class DenseLayer(nn.Module):
    """Huang et al. 2017: what comes out is joined to all that came before."""

    def __init__(self, inputs: int, growth: int = 32):
        super().__init__()
        self.first = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        )
        self.second = nn.Sequential(
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x):
        return torch.cat([x, self.second(self.first(x))], 1)


def densenet121():
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate([6, 12, 24, 16]):
        for _ in range(count):
            layers.append(DenseLayer(inputs))
            inputs += 32
        if stage < 3:
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, inputs // 2, 1)]
            layers.append(nn.AvgPool2d(2))
            inputs //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU(), *head(inputs))


class Shuffled(nn.Module):
    """Ma et al. 2018 (ShuffleNet V2): split, work on one half, join, shuffle."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            conv(half, half, 1), nn.ReLU(), conv(half, half, groups=half), conv(half, half, 1),
            nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        one, other = x.chunk(2, dim=1)
        x = torch.cat([one, self.body(other)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return x.view(batch, channels, height, width)


def shuffle():
    return nn.Sequential(
        conv(3, 32, 3, 2), nn.ReLU(), Shuffled(32), Shuffled(32), conv(32, 64, 1), nn.ReLU(),
        *head(64),
    )  # fmt: skip


def layer_norm():
    return nn.Sequential(
        nn.Linear(16, 48), nn.LayerNorm(48), nn.GELU(), nn.Linear(48, 32), nn.LayerNorm(32),
        nn.GELU(), nn.Linear(32, CLASSES),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, kind: type):
        super().__init__()
        self.before, self.cells = nn.Linear(8, 32), kind(32, 32, batch_first=True)
        self.after, self.answer = nn.Linear(32, 16), nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.cells(functional.relu(self.before(x)))[0][:, -1]
        return self.answer(functional.relu(self.after(x)))


class Attention(nn.Module):
    """One fused projection for queries, keys and values, the form Torch-Pruning documents."""

    def __init__(self, width: int = 32, heads: int = 4):
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, steps, _ = x.shape
        x = self.qkv(x).reshape(batch, steps, 3, self.num_heads, self.head_dim)
        q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(x.reshape(batch, steps, -1))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.attention = nn.Linear(8, 32), Attention()
        self.up, self.down, self.answer = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 7)

    def forward(self, x):
        x = self.before(x)
        x = x + self.attention(x)
        x = x + self.down(functional.relu(self.up(x)))
        return self.answer(x.mean(1))


IMAGE, STEPS = (3, 64, 64), (6, 8)
NETS = {
    "ResNet18": (lambda: resnet([2, 2, 2, 2], False), IMAGE),
    "ResNet50": (lambda: resnet([3, 4, 6, 3], True), IMAGE),
    "MobileNetV2": (mobilenet_v2, IMAGE),
    "DenseNet121": (densenet121, IMAGE),
    "channel shuffle": (shuffle, IMAGE),
    "LayerNorm": (layer_norm, (16,)),
    "LSTM": (lambda: Recurrent(nn.LSTM), STEPS),
    "GRU": (lambda: Recurrent(nn.GRU), STEPS),
    "attention": (Attending, STEPS),
}
