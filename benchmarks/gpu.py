"""On a card: what observing, extracting and distilling take beside what Keras itself takes there.

    python benchmarks/gpu.py                    # on the first GPU
    python benchmarks/gpu.py --small --cpu      # a trial of the script where there is none

Images of 32 x 32 made of noise and a mark for each label, and a ResNet-20 of `--width` times its
channels: what is measured is time and memory, not what networks are worth. In float32 and in
mixed_float16, each a process of its own. Rows are paired by round in one run, by the clock; every
work ends with numbers on the host, and traces what it runs.

- observe: beside a compiled forward pass over the same batches.
- observe, compiled by XLA: the same where the model was compiled with `jit_compile=True`.
- extract: two labels at a quarter of the parameters, beside the first epoch of training.
- distill: an epoch at one rate, beside a later epoch of training.
- memory: the card's peak while observing, over that of the forward pass.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from models import resnet20
from timing import machine, side_by_side

import keras_nns as nns

POLICIES = ("float32", "mixed_float16")
BATCH, EPOCHS = 256, 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=4, help="times the channels of a ResNet-20")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="512 images, its own width, one round")
    parser.add_argument("--cpu", action="store_true", help="where there is no card")
    parser.add_argument("--policy", choices=POLICIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.small:
        args.images, args.width, args.repeats = 512, 1, 1
    return args


class Bench:
    def __init__(self, args: argparse.Namespace) -> None:
        random = np.random.default_rng(0)
        self.y = random.integers(0, 10, args.images)
        # Something to learn, so that no label's units are all dead.
        marks = random.normal(size=(10, 32, 32, 3)).astype("float32")
        self.x = marks[self.y] + random.normal(size=(args.images, 32, 32, 3)).astype("float32")
        self.repeats = args.repeats
        keras.utils.set_random_seed(0)
        self.model = self.compiled(resnet20(width=16 * args.width))
        self.model.fit(self.x, self.y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        self.trained = self.first_epoch()

    @staticmethod
    def compiled(model: keras.Model, **options: object) -> keras.Model:
        model.compile("adam", "sparse_categorical_crossentropy", **options)
        return model

    def pass_over(self) -> None:
        forward = tf.function(lambda batch: self.model(batch, training=False))
        for start in range(0, len(self.x), BATCH):
            np.asarray(forward(tf.constant(self.x[start : start + BATCH])))

    def observe(self) -> object:
        return nns.observe(self.model, (self.x, self.y), batch_size=BATCH, verbose=False)

    def first_epoch(self) -> keras.Model:
        fresh = keras.models.clone_model(self.model)
        fresh.set_weights(self.model.get_weights())
        self.compiled(fresh).fit(self.x, self.y, batch_size=BATCH, verbose=0)
        return fresh

    def later_epoch(self) -> object:
        return self.trained.fit(self.x, self.y, batch_size=BATCH, verbose=0)

    def extract(self) -> nns.results.Extraction:
        budget = nns.Budget(parameters=self.model.count_params() // 4)
        return nns.extract(
            self.model, (self.x, self.y), labels=[0, 1], budget=budget, verbose=False
        )

    def distill(self, small: keras.Model) -> object:
        return nns.distill(
            small, self.model, (self.x, self.y), optimizer="adam", batch_size=BATCH, held_out=0
        )


def show(title: str, functions: dict, repeats: int, *, warm: int = 1) -> None:
    print(title)
    for name, timing in side_by_side(functions, repeats=repeats, warm=warm).items():
        print(f"  {name:34} {timing.row()}", flush=True)


def peak(work) -> int:
    """Return the most bytes of the card that were in use while something was done."""
    tf.config.experimental.reset_memory_stats("GPU:0")
    work()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def measure(args: argparse.Namespace) -> None:
    keras.config.set_dtype_policy(args.policy)
    cards = tf.config.list_physical_devices("GPU")
    named = [tf.config.experimental.get_device_details(card).get("device_name") for card in cards]
    print(f"\n{args.policy}, on {', '.join(map(str, named)) or 'no card: the processor'}")
    bench = Bench(args)
    small = bench.extract().model
    repeats = bench.repeats
    show("observe", {"forward pass": bench.pass_over, "observe": bench.observe}, repeats)
    first = {"a first epoch": bench.first_epoch, "extract": bench.extract}
    show("extract, tracing included", first, repeats, warm=0)
    later = {
        "a later epoch": bench.later_epoch,
        "distill, an epoch, tracing included": lambda: bench.distill(small),
    }
    show("distill", later, repeats)
    bench.compiled(bench.model, jit_compile=True)
    compiled = {"forward pass": bench.pass_over, "observe": bench.observe}
    show("observe a model that XLA compiles", compiled, repeats)
    if cards:
        bare, watched = peak(bench.pass_over), peak(bench.observe)
        print(f"memory of the card: {bare / 2**20:.0f} MiB, observing {watched / 2**20:.0f} MiB")


def main() -> None:
    args = arguments()
    if args.policy:
        measure(args)
        return
    if not args.cpu and not tf.config.list_physical_devices("GPU"):
        sys.exit("TensorFlow finds no GPU here. Pass --cpu to try the script without one.")
    print(machine(), flush=True)
    for policy in POLICIES:
        subprocess.run([sys.executable, *sys.argv, "--policy", policy], check=True)


if __name__ == "__main__":
    main()
