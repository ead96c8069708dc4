"""Law 1 measured: the largest difference between `cut` and `mask`, relative to the output's scale.

Every row of the contract table (random weights) at 10, 50 and 90 % random plans, then two networks
trained on scikit-learn's digits with every head and the paper's plans.

    python benchmarks/exactness.py [--seeds 2]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

import keras
import numpy as np
from contract import randomise
from contract_table import ROWS
from keras import layers
from sklearn.datasets import load_digits
from timing import machine

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.proving import TOLERANCE


def random_plan(model, share: float, seed: int) -> Plan:
    graph = trace(model)
    random = np.random.default_rng(seed)
    kept = {}
    for group in graph.layout.prunable:
        stays = random.random(group.size) < share
        stays[random.integers(group.size)] = True
        stays[list(group.protected)] = True
        kept[group.name] = tuple(np.flatnonzero(stays).tolist())
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return Plan(graph.fingerprint, sizes, kept, (1, 2))


def trained(build) -> keras.Model:
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit((x / 16).reshape(-1, *model.input_shape[1:]), y, epochs=5, verbose=0)
    return model


def mlp():
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(48, activation="relu"),
            layers.Dense(32, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def residual():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(12, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    y = layers.Conv2D(12, 3, padding="same")(x)
    y = layers.BatchNormalization(momentum=0.9)(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    print(machine())
    worst: dict[str, float] = {}
    plans = 0
    for row in ROWS:
        model = randomise(row.build())
        if not trace(model).layout.prunable:
            continue
        for seed in range(args.seeds):
            for share in (0.1, 0.5, 0.9):
                proof = nns.prove(model, random_plan(model, share, seed), samples=4)
                worst[row.name] = max(worst.get(row.name, 0.0), proof.relative)
                plans += 1
        keras.backend.clear_session()
    print(f"\n{len(worst)} rows of the contract table, {plans} random plans, random weights")
    for name, value in sorted(worst.items(), key=lambda item: -item[1])[:10]:
        print(f"  {name:50} {value:.1e}")
    high = max(worst.values())
    for build in (mlp, residual):
        model = trained(build)
        x, y = load_digits(return_X_y=True)
        x = (x / 16).reshape(-1, *model.input_shape[1:]).astype("float32")
        activity = nns.observe(model, (x, y), verbose=False)
        proofs = [
            nns.prove(model, plan, head=head, samples=x[:64])
            for plan in nns.select(activity, "each")
            for head in ("parent", "other", "binary")
        ]
        value = max(proof.relative for proof in proofs)
        print(f"trained {build.__name__}: {len(proofs)} plans of the paper's rule: {value:.1e}")
        high = max(high, value)
    print(f"\nlargest of all: {high:.1e} (asked for: at most {TOLERANCE:.0e})")


if __name__ == "__main__":
    main()
