"""A model trained by others: every label extracted, exact, exported, verified, in both formats.

    python benchmarks/moonflower.py FOLDER

FOLDER holds `models/mnist_cnn_moonflower.keras`, `.h5`, and MNIST's IDX files in `mnist/`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(machine())
    data = load_dataset(folder / "mnist")
    x, y = data.x_train[:5000], data.y_train[:5000]
    for suffix in ("keras", "h5"):
        model = nns.load_model(folder / "models" / f"mnist_cnn_moonflower.{suffix}")
        x_train, x_test = (
            np.reshape(part, (-1, *model.input_shape[1:])) for part in (x, data.x_test)
        )
        activity = nns.observe(model, (x_train, y), verbose=False)
        print(f"\n.{suffix}: {model.count_params():,} parameters, contrast, half of each layer")
        print("label  parameters  recall  specificity     AUC  cut against mask   bytes  file")
        for label, plan in enumerate(
            nns.select(activity, "each", score=nns.scores.contrast, keep=nns.fraction(0.5))
        ):
            small = nns.cut(model, plan, head="binary")
            proof = nns.prove(model, plan, head="binary", samples=x_test[:64])
            row = nns.evaluate(small, (x_test, data.y_test))[label]
            flat = tflite_export.convert(small)
            same = tflite_export.verify(flat, small, x_test[:64])
            print(
                f"{label:5} {small.count_params():11,} {row.recall:7.3f} {row.specificity:12.3f} "
                f"{row.auc:7.3f} {proof.relative:17.1e} {len(flat):7,}  {same.relative:.1e}"
            )


if __name__ == "__main__":
    main()
