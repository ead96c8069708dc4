"""What networks are worth that `select` chooses by default, beside the paper's rule, as cut.

python benchmarks/select_defaults.py --data FOLDER

A network of the demo is trained on scikit-learn's digits, and on 6,000 images of Fashion-MNIST (in
FOLDER/fashion_mnist), seed 0; one network of each label is cut with all its answers, and judged as
a detector of its label on held-out samples (2,000 of Fashion-MNIST's test part).
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

import keras_nns as nns
from keras_nns.data.named import load_dataset
from keras_nns.demo import trained_on

WAYS = {
    "the paper's rule": {"score": "mean_activation"},
    "the paper's score, as many units as the default": {
        "score": "mean_activation",
        "keep": nns.fraction(0.5),
    },
    "the default": {},
    "contrast, above(0.1)": {"score": "contrast", "keep": nns.above(0.1)},
    "contrast, fraction(0.25)": {"keep": nns.fraction(0.25)},
}


def main() -> None:
    """Print one line for each data set and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    fashion = load_dataset(given.data / "fashion_mnist")
    fashion = replace(
        fashion,
        x_train=fashion.x_train[:6000],
        y_train=fashion.y_train[:6000],
        x_test=fashion.x_test[:2000],
        y_test=fashion.y_test[:2000],
    )
    for name, data, epochs in (("digits", load_dataset("digits"), None), ("fashion", fashion, 3)):
        model, activity, _ = trained_on(data, 0, epochs)
        accuracy = nns.evaluate(model, data.x_test, data.y_test).accuracy
        print(f"{name}: parent of {model.count_params():,} parameters, accuracy {accuracy:.3f}")
        for words, options in WAYS.items():
            rows, shares = [], []
            for label in range(len(data.label_names)):
                small = nns.cut(model, nns.select(activity, label, **options))
                row = nns.evaluate(small, data.x_test, data.y_test)[label]
                rows.append((row.recall, row.specificity, row.balanced_accuracy, row.auc))
                shares.append(small.count_params() / model.count_params())
            recall, specificity, balanced, auc = np.mean(rows, axis=0)
            least = min(row[1] for row in rows)
            print(
                f"  {words}: {np.mean(shares):.3f} of the parameters, recall {recall:.3f}, "
                f"specificity {specificity:.3f} (least {least:.3f}), balanced {balanced:.3f}, "
                f"AUC {auc:.3f}"
            )


if __name__ == "__main__":
    main()
