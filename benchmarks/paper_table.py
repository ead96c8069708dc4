"""The paper's own weights and rows through this library: kept parameters, recall, specificity.

    python benchmarks/paper_table.py FOLDER

FOLDER holds `simpleMLPWghts.json` and `train_first1000.csv` of *NNS: neural network surgery*.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_nns as nns
from keras_nns.paper.method import read_subject


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    subject = read_subject(parser.parse_args().folder)
    model, x, y = subject.model, subject.x, subject.y
    print(f"base accuracy {np.mean(model(x).numpy().argmax(axis=1) == y):.3f} over {len(y)} rows")
    activity = nns.observe(model, (x, y))
    for zeta in (0.4, 0.5):
        print(f"\nzeta {zeta}\nlabel  kept parameters  recall %  specificity %  cut against mask")
        plans = nns.select(activity, "each", keep=nns.above(zeta))
        for label, plan in enumerate(plans):
            answers = nns.cut(model, plan)(x).numpy().argmax(axis=1)
            recall = 100 * np.mean(answers[y == label] == label)
            specificity = 100 * np.mean(answers[y != label] != label)
            kept = len(plan.kept["hidden"]) * x.shape[1]
            proof = nns.prove(model, plan, samples=x)
            print(f"{label:5} {kept:16} {recall:9.1f} {specificity:14.1f}  {proof.relative:.1e}")
        merged = nns.merge(plans)
        accuracy = np.mean(nns.cut(model, merged)(x).numpy().argmax(axis=1) == y)
        print(f"merged: {len(merged.kept['hidden'])} of 100 units, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
