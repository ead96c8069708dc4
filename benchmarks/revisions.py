"""Is this checkout slower than an earlier revision? One process of each works in turn.

python benchmarks/revisions.py 59c411a --rounds 15

Both processes stay up, so that what is compiled stays so, and do the same passes one after the
other, the order turned round every time. Counted are the processor's seconds of one thread, which
other work on the machine disturbs least; the bare forward pass and `fit` are there to show how much
of a difference is noise.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASSES = (
    "MLP, batches of 512: bare compiled forward pass",
    "MLP, batches of 512: observe",
    "MLP, batches of 4096: bare compiled forward pass",
    "MLP, batches of 4096: observe",
    "ResNet-20, batches of 512: bare compiled forward pass",
    "ResNet-20, batches of 512: observe",
    "MLP: an epoch of fit",
    "MLP: an epoch of fit, gathering from its batches",
    "ResNet50: clone_model",
    "ResNet50: trace",
    "ResNet50: cut to a half",
)


def found(name: str, *modules: str):
    """What a revision calls `name`, in the first of these modules that it has."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"this revision has no {name}")


def observing(title: str, model, x, y, batch: int) -> dict[str, Callable[[], object]]:
    import tensorflow as tf

    observer = found("Observer", "keras_nns.observation.watcher", "keras_nns.observation")(model)
    forward = tf.function(lambda b: model(b, training=False), autograph=False)

    def bare() -> None:
        for start in range(0, len(x), batch):
            forward(tf.convert_to_tensor(x[start : start + batch]))

    return {
        f"{title}, batches of {batch}: bare compiled forward pass": bare,
        f"{title}, batches of {batch}: observe": lambda: observer.observe(
            (x, y), batch_size=batch, verbose=False
        ),
    }


def training(model, x, y, gathered: bool) -> Callable[[], object]:
    import keras_nns as nns

    model.compile("adam", "sparse_categorical_crossentropy")
    monitor = [nns.ActivityMonitor()] if gathered else []
    return lambda: model.fit(x, y, batch_size=512, epochs=1, verbose=0, callbacks=monitor)


def cutting() -> dict[str, Callable[[], object]]:
    import keras
    import numpy as np

    import keras_nns as nns

    trace = found("trace", "keras_nns.graph.tracing", "keras_nns.keras_graph", "keras_nns")
    plan_of = found("Plan", "keras_nns.plans.kept_units", "keras_nns.plan")
    model = keras.applications.ResNet50(weights=None)
    graph = trace(model)
    random = np.random.default_rng(0)
    kept, sizes = {}, {}
    for group in graph.layout.prunable:
        drawn = random.permutation(group.size)[: max(1, group.size // 2)].tolist()
        kept[group.name] = tuple(sorted({*drawn, *group.protected}))
        sizes[group.name] = group.size
    plan = plan_of(graph.fingerprint, sizes, kept)
    return {
        "ResNet50: clone_model": lambda: keras.models.clone_model(model),
        "ResNet50: trace": lambda: trace(model),
        "ResNet50: cut to a half": lambda: nns.cut(model, plan),
    }


def serve() -> None:
    """Do the passes that are asked for on standard input, and answer with their seconds."""
    import models
    import numpy as np

    random = np.random.default_rng(0)
    x = random.random((60_000, 784), dtype=np.float32)
    y = random.integers(0, 10, len(x))
    pictures = random.random((2_048, 32, 32, 3), dtype=np.float32)
    passes = {
        **observing("MLP", models.mlp(), x, y, 512),
        **observing("MLP", models.mlp(), x, y, 4096),
        **observing("ResNet-20", models.resnet20(), pictures, y[: len(pictures)], 512),
        "MLP: an epoch of fit": training(models.mlp(), x[:20_000], y[:20_000], False),
        "MLP: an epoch of fit, gathering from its batches": training(
            models.mlp(), x[:20_000], y[:20_000], True
        ),
        **cutting(),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.process_time()
        passes[line.strip()]()
        print(f"seconds {time.process_time() - start}", flush=True)


class Revision:
    """A process of one revision."""

    def __init__(self, root: Path) -> None:
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        path = os.pathsep.join([str(root), str(root / "benchmarks")])
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__), "HEAD", "--serve"],
            env={**os.environ, **threads, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer("ready")

    def _answer(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        raise SystemExit("a process ended early; run it with --serve to see why")

    def seconds(self, name: str) -> float:
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        return float(self._answer("seconds"))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="what to compare this checkout with, as git names it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="passes whose name has this")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    from timing import machine

    print(machine(), "- one thread, the processor's seconds")
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(old), args.revision], check=True)
        try:
            both = {"before": Revision(old), "now": Revision(ROOT)}
            for name in [name for name in PASSES if args.only in name]:
                seconds: dict[str, list[float]] = {"before": [], "now": []}
                for number in range(-1, args.rounds):
                    order = list(both) if number % 2 == 0 else list(reversed(both))
                    for which in order:
                        took = both[which].seconds(name)
                        if number >= 0:
                            seconds[which].append(took)
                ratios = sorted(
                    now / before
                    for before, now in zip(seconds["before"], seconds["now"], strict=True)
                )
                quarter = len(ratios) // 4
                print(
                    f"  {name:56} {min(seconds['before']):7.3f} s before "
                    f"{min(seconds['now']):7.3f} s now   of minima "
                    f"{min(seconds['now']) / min(seconds['before']):6.3f}, paired median "
                    f"{statistics.median(ratios):6.3f} "
                    f"(half of them {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})",
                    flush=True,
                )
            for one in both.values():
                one.end()
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)


if __name__ == "__main__":
    main()
