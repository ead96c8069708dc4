"""Does a repaired network survive int8, and what does that cost in float32?

    python benchmarks/repair_int8.py --data FOLDER [--sets mnist] [--seeds 0] [--shares 0.1]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` and `fashion_mnist/`.

For each data set and seed a small residual network with batch norms learns ten classes from 12,000
training images. Networks for one label or two are cut to a share of the units by `contrast`, and
repaired on 3,000 of the images in two ways, least squares and the head, or the head alone; each for
float32 alone (`rounding=None`) and so that rounding to int8 counts too (`rounding="int8"`, the
default). Each becomes an int8 file, its ranges measured on the same 3,000 images, and is held
against its Keras model by `tflite_export.verify` on 4,000 test images: the rms of the difference
as a share of the answers' scale, whether it passes, and the balanced accuracy of both, the mean
over the labels. Nothing is chosen on them.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fashion_nets
import keras
import numpy as np
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset
from keras_nns.shipping.tflite_files import to_variant

TRAIN, FIT, TEST = 12_000, 3_000, 4_000
SHARES = (0.1, 0.25)
LABELS = ((3,), (6,), (2, 5))
ROUNDINGS = (None, "int8")
ANY = tflite_export.Tolerance()
WAYS = {
    "least squares and head": (nns.steps.least_squares, nns.steps.calibrate_head),
    "head alone": (nns.steps.calibrate_head,),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def trained(x, y, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = fashion_nets.network(momentum=0.9)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    return model


def measured(small, model, labels, steps, fit, test) -> dict[str, float]:
    fixed = nns.repair(small, model, fit, steps=steps).model
    x, y = test
    flat = to_variant(fixed, "int8", (*fit, tuple(map(str, range(10)))))
    truth = np.isin(y, labels).astype(int)
    if len(labels) > 1:
        truth = np.array([labels.index(one) if one in labels else len(labels) for one in y])
    apart = tflite_export.verify(flat, fixed, x, targets=truth, tolerance=ANY)
    rows = apart.labels[-1:] if len(labels) == 1 else apart.labels[: len(labels)]
    asked = tflite_export.VARIANTS["int8"].tolerance
    return {
        "float32": float(np.mean([row.model.balanced_accuracy for row in rows])),
        "int8": float(np.mean([row.file.balanced_accuracy for row in rows])),
        "rms": apart.rms,
        "passes": float(apart.rms <= asked.rms and (apart.agreement or 0) >= asked.agreement),
        "largest weight": max(float(np.abs(w).max()) for w in fixed.get_weights() if w.ndim > 1),
    }


def main() -> None:
    args = arguments()
    print(machine())
    for name in args.sets:
        data = load_dataset(args.data / name)
        x, y = np.reshape(data.x_train, (-1, 28, 28, 1)), data.y_train
        test = np.reshape(data.x_test, (-1, 28, 28, 1))[:TEST], data.y_test[:TEST]
        fit = x[:FIT], y[:FIT]
        found = defaultdict(list)
        for seed in args.seeds:
            model = trained(x[:TRAIN], y[:TRAIN], seed)
            activity = nns.observe(model, fit, verbose=False)
            for share in args.shares:
                for labels in LABELS:
                    plan = nns.select(
                        activity, list(labels), score="contrast", keep=nns.fraction(share)
                    )
                    small = nns.cut(model, plan, head="binary" if len(labels) == 1 else "other")
                    for way, makers in WAYS.items():
                        for rounding in ROUNDINGS:
                            steps = [make(rounding=rounding) for make in makers]
                            start = time.perf_counter()
                            with warnings.catch_warnings():
                                warnings.simplefilter("ignore")
                                one = measured(small, model, labels, steps, fit, test)
                            found[share, way, rounding].append(one)
                            shown = ", ".join(f"{key} {value:.4g}" for key, value in one.items())
                            took = time.perf_counter() - start
                            print(f"{name}, seed {seed}, {share:.0%}, {labels}, {way}, {rounding}: "
                                  f"{shown}; {took:.0f} s", flush=True)  # fmt: skip
        print(f"\n{name}: mean over seeds and labels (the worst)")
        for (share, way, rounding), ones in found.items():
            cells = []
            for key in ones[0]:
                values = [one[key] for one in ones]
                worst = max(values) if key in ("rms", "largest weight") else min(values)
                cells.append(f"{key} {np.mean(values):.4g} ({worst:.4g})")
            print(f"  {share:4.0%}  {way:22}  {rounding!s:5}", *cells, sep="  ")


if __name__ == "__main__":
    main()
