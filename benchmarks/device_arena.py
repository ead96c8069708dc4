"""`tflite_export.arena` beside the smallest arena that TFLite Micro accepts, found otherwise.

Seven networks (random weights, seed 0) in float32, int8 and int16x8. The figure that is compared
with comes from a program of its own that knows nothing of this package: it forks for every try,
since TFLite Micro may end the process that it is in, tries forty sizes from a tenth of the arena
up, which must all be refused, and then every fourth byte from 512 below it. Beside them stand what
TFLite Micro reports as used, and the largest sum of tensors that live at once.

    pip install 'keras-nns[micro]'
    python benchmarks/device_arena.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import tflite_export

TARGET = 64
VARIANTS = ("float32", "int8", "int16x8")
TRIES = """
import json, os, re, sys, tempfile
import numpy as np
from tflite_micro import runtime
flat, found = open(sys.argv[1], "rb").read(), int(sys.argv[2])
def run(arena):
    it = runtime.Interpreter.from_bytes(flat, arena_size=arena)
    for n in range(int(sys.argv[3])):
        told = it.get_input_details(n)
        it.set_input(np.zeros(told["shape"], told["dtype"]), n)
    it.invoke()
    return it
def accepted(arena):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            run(arena)
        except RuntimeError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
with tempfile.TemporaryFile() as said:
    kept = os.dup(2)
    os.dup2(said.fileno(), 2)
    run(1 << 26).print_allocations()
    os.dup2(kept, 2)
    said.seek(0)
    used = int(re.search(rb"allocation total (\\d+)", said.read())[1])
below = [a for a in np.linspace(found // 10, found - 512, 40).astype(int).tolist() if a > 0]
early = [a for a in below if accepted(a)]
scan = (a for a in range(max(found - 512, 4), 2 * found, 4) if accepted(a))
print(json.dumps({"used": used, "smallest": min(early) if early else next(scan)}))
"""


def mlp() -> keras.Model:
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(16, activation="relu"), layers.Dense(10)]
    )


def cnn(first: int, second: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(first, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(second, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def resnet8() -> keras.Model:
    """The shape of MLPerf Tiny's: three blocks of 16, 32 and 64 units on images of 32 x 32."""
    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(inputs)))
    for units, strides in ((16, 1), (32, 2), (64, 2)):
        y = layers.Conv2D(units, 3, strides, padding="same")(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(units, 3, padding="same")(y))
        if strides > 1:
            x = layers.Conv2D(units, 1, strides, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def ds_cnn() -> keras.Model:
    """The shape of MLPerf Tiny's keyword network, with 64 units."""
    inputs = keras.Input((49, 10, 1))
    x = layers.Conv2D(64, (10, 4), 2, padding="same", activation="relu")(inputs)
    for _ in range(4):
        x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(64, 1)(x)))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    return keras.Model(inputs, layers.Dense(12, activation="softmax")(x))


def lstm() -> keras.Model:
    return keras.Sequential([keras.Input((12, 8)), layers.LSTM(16), layers.Dense(4)])


def attention() -> keras.Model:
    inputs = keras.Input((12, 16))
    x = layers.Add()([inputs, layers.MultiHeadAttention(2, 8)(inputs, inputs)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(4)(x))


NETWORKS = {
    "MLP, 16 units": mlp,
    "CNN, 8 + 16 units": lambda: cnn(8, 16),
    "CNN, 7 + 13 units": lambda: cnn(7, 13),
    "ResNet-8": resnet8,
    "DS-CNN": ds_cnn,
    "LSTM, 16 units": lstm,
    "attention, 2 heads": attention,
}


def tried(flat: bytes, found: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(flat)
        inputs = str(len(tflite_export.anatomy(flat).inputs))
        done = subprocess.run(
            [sys.executable, "-c", TRIES, str(path), str(found), inputs],
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two networks only")
    quick = parser.parse_args().quick
    print("| network | variant | `arena` | smallest accepted | apart | reported | tensors |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    worst = 0
    for name, build in list(NETWORKS.items())[: 2 if quick else None]:
        keras.utils.set_random_seed(0)
        model = build()
        x = np.random.default_rng(0).random((120, *model.input_shape[1:]), dtype=np.float32)
        for variant in VARIANTS:
            with warnings.catch_warnings():
                # Random weights answer few labels.
                warnings.simplefilter("ignore")
                try:
                    flat = tflite_export.convert(model, quantize=variant, samples=x)
                    found = tflite_export.arena(flat)
                except tflite_export.ExportError as error:
                    print(f"| {name} | {variant} | {str(error).split(': ', 1)[-1][:80]} | | | | |")
                    continue
            other = tried(flat, found)
            apart = found - other["smallest"]
            worst = max(worst, abs(apart))
            tensors = tflite_export.anatomy(flat).activation_bytes
            print(
                f"| {name} | {variant} | {found:,} | {other['smallest']:,} | {apart} | "
                f"{other['used']:,} | {'–' if tensors is None else f'{tensors:,}'} |",
                flush=True,
            )
    print(f"\nlargest difference {worst} bytes; target: at most {TARGET}")


if __name__ == "__main__":
    main()
