"""How long does saving and loading the activity of many labels and units take?

python benchmarks/activity_files.py

Beside numpy's own compressed file of the same arrays. Counts are drawn as a ReLU network's are:
each unit fires for its own share of a label's samples, values are half normal.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import machine, side_by_side

from keras_nns.observation.activity import Activity, LayerActivity
from keras_nns.plans.units import Fingerprint, Group, Layout, Member


def activity(labels: int, units: int, samples: int) -> Activity:
    random = np.random.default_rng(0)
    fired = random.binomial(samples, random.random(units) * 0.5, (labels, units)).astype(np.int64)
    total = np.abs(random.normal(size=(labels, units))) * fired
    everyone = tuple(range(units))
    return Activity(
        fingerprint=Fingerprint("0" * 64, "0" * 64),
        layout=Layout((Group("dense", units, (Member("dense", everyone),)),)),
        label_names=tuple(str(i) for i in range(labels)),
        samples=np.full(labels, samples, np.int64),
        layers={"dense": LayerActivity(total=total, magnitude=total, fired=fired)},
        statistics=("fired", "mean"),
        threshold=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    made = activity(args.labels, args.units, 50)
    layer = made.layers["dense"]
    with tempfile.TemporaryDirectory() as folder:
        ours, numpys = Path(folder, "activity.npz"), Path(folder, "numpy.npz")
        found = side_by_side(
            {
                "numpy.savez_compressed": lambda: np.savez_compressed(
                    numpys, total=layer.total, fired=layer.fired
                ),
                "Activity.save": lambda: made.save(ours, overwrite=True),
                "Activity.load": lambda: Activity.load(ours),
            },
            repeats=args.repeats,
            warm=0,
            clock=time.process_time,
        )
        sizes = {path.name: path.stat().st_size / 2**20 for path in (ours, numpys)}
        assert Activity.load(ours) == made
    print(f"{args.labels} labels, {args.units:,} units; seconds of the processor; MiB {sizes}")
    for name, timing in found.items():
        print(f"  {name:24} {timing.row()}")


if __name__ == "__main__":
    main()
