"""How long tracing and cutting take beside Keras's own clone_model, for growing graphs.

python benchmarks/surgery_speed.py [--models ResNet50 ...]
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from timing import machine, side_by_side

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan

DEFAULT = ("ResNet50", "ResNet152", "DenseNet201", "NASNetLarge")


def half(model) -> Plan:
    """A plan that keeps a random half of every group."""
    graph = trace(model)
    random = np.random.default_rng(0)
    kept = {
        group.name: {
            *random.permutation(group.size)[: max(1, group.size // 2)].tolist(),
            *group.protected,
        }
        for group in graph.layout.prunable
    }
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return Plan(graph.fingerprint, sizes, {name: tuple(units) for name, units in kept.items()})


def run(name: str, repeats: int) -> None:
    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None)
    plan = half(model)

    def clone() -> None:
        keras.models.clone_model(model).set_weights(model.get_weights())

    found = side_by_side(
        {
            "clone_model + set_weights": clone,
            "clone_model": lambda: keras.models.clone_model(model),
            "trace": lambda: trace(model),
            "cut to a half": lambda: nns.cut(model, plan),
        },
        repeats=repeats,
    )
    calls = len(trace(model).calls)
    print(f"\n{name}: {calls} calls, {model.count_params():,} parameters")
    for what, timing in found.items():
        per_call = 1000 * min(timing.seconds) / calls
        print(f"  {what:26} {timing.row()}   {per_call:.2f} ms a call")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=DEFAULT)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    for name in args.models:
        run(name, args.repeats)


if __name__ == "__main__":
    main()
