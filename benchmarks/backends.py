"""How much longer does observing take than the backend's own forward pass over the same batches?

KERAS_BACKEND=jax python benchmarks/backends.py

The forward pass is what the backend offers: jitted in JAX, with weights and batches handed in
and the model's whole answer handed out; a `tf.function`; torch without gradients.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import models
import numpy as np
from timing import machine, side_by_side

from keras_nns.observation.watcher import Observer


def forward(model: keras.Model) -> Callable[[np.ndarray], object]:
    """Return the model's forward pass as the backend compiles it, ended when it returns."""
    if keras.config.backend() == "jax":
        import jax

        def call(trained, other, batch):
            return model.stateless_call(trained, other, batch, training=False)[0]

        compiled = jax.jit(call)
        variables = model.trainable_variables, model.non_trainable_variables
        values = [[variable.value for variable in some] for some in variables]
        return lambda batch: compiled(*values, batch).block_until_ready()
    if keras.config.backend() == "torch":
        import torch

        def run(batch):
            with torch.no_grad():
                return model(torch.from_numpy(batch), training=False)

        return run
    import tensorflow as tf

    traced = tf.function(lambda batch: model(batch, training=False), autograph=False)
    return lambda batch: traced(tf.convert_to_tensor(batch))


def compare(title: str, model: keras.Model, x: np.ndarray, batch: int, args) -> None:
    y = np.random.default_rng(1).integers(0, 10, len(x))
    step, observer = forward(model), Observer(model)

    def bare() -> None:
        for start in range(0, len(x), batch):
            step(x[start : start + batch])

    def observe() -> None:
        observer.observe((x, y), batch_size=batch, verbose=False)

    found = side_by_side(
        {"forward pass": bare, "observe": observe},
        repeats=args.repeats,
        clock=time.process_time if args.processor else time.perf_counter,
    )
    print(f"\n{title} on {keras.config.backend()}, batch {batch}, {len(x)} images, seed 0")
    for name, timing in found.items():
        print(f"  {name:14} {timing.row()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--only", choices=["mlp", "resnet"])
    parser.add_argument("--processor", action="store_true", help="seconds of the processor")
    args = parser.parse_args()
    print(machine())
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    share = 8 if args.quick else 1
    if args.only != "resnet":
        x = random.random((49_152 // share, 784), dtype=np.float32)
        compare("MLP 784-512-256-10", models.mlp(), x, 4096, args)
    if args.only != "mlp":
        x = random.random((4096 // share, 32, 32, 3), dtype=np.float32)
        compare("ResNet-20", models.resnet20(), x, 512, args)


if __name__ == "__main__":
    main()
