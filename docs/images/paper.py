"""Make the pictures of docs/paper.md: python docs/images/paper.py."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_nns import paper_beyond, paper_plots, paper_tables
from keras_nns.paper import train_subject

FOLDER = Path(__file__).parent
LABEL = 1
DPI = 80


def main() -> None:
    """Train on scikit-learn's digits, and draw what the page shows."""
    study = paper_tables.study(train_subject("digits"))
    grown = {label: paper_tables.growth(study, label) for label in (1, 9)}
    zeta = paper_tables.ZETAS[0]
    figures = {
        "snapshots": paper_plots.snapshots(study, LABEL),
        "averages": paper_plots.averages(study, LABEL),
        "rows": paper_plots.vectorised(study, LABEL),
        "units-added": paper_plots.growing(study, grown),
        "orders": paper_plots.ordered(paper_beyond.orders(study, zeta), zeta),
        "every-zeta": paper_plots.swept(study, paper_beyond.sweep(study)),
        "best": paper_plots.beside(study, paper_beyond.rivals(study, zeta)),
    }
    for name, figure in figures.items():
        figure.savefig(FOLDER / f"paper-{name}.png", dpi=DPI)


if __name__ == "__main__":
    main()
