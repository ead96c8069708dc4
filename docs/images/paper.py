"""Make the pictures of docs/paper.md: python docs/images/paper.py."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_nns.paper import beyond, plots, tables
from keras_nns.paper.method import train_subject

FOLDER = Path(__file__).parent
LABEL = 1
DPI = 80


def main() -> None:
    """Train on scikit-learn's digits, and draw what the page shows."""
    study = tables.study(train_subject("digits"))
    grown = {label: tables.growth(study, label) for label in (1, 9)}
    zeta = tables.ZETAS[0]
    figures = {
        "snapshots": plots.snapshots(study, LABEL),
        "averages": plots.averages(study, LABEL),
        "rows": plots.vectorised(study, LABEL),
        "units-added": plots.growing(study, grown),
        "orders": plots.ordered(beyond.orders(study, zeta), zeta),
        "every-zeta": plots.swept(study, beyond.sweep(study)),
        "best": plots.beside(study, beyond.rivals(study, zeta)),
    }
    for name, figure in figures.items():
        figure.savefig(FOLDER / f"paper-{name}.png", dpi=DPI)


if __name__ == "__main__":
    main()
