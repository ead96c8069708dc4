"""Every table and figure of the paper, and beside each what the paper leaves out.

    python examples/reproduce_paper.py [FOLDER] [--dataset mnist] [--output nns_paper]

FOLDER holds the paper's own `simpleMLPWghts.json` and `train_first1000.csv`. Without it, the same
is done to a network trained the paper's way on scikit-learn's digits, or on MNIST. The six steps of
the paper's section 3.1 are the functions `train`, `snapshot`, `average`, `choose`, `extract` and
`integrate` of `keras_nns.paper.method`.
"""

from __future__ import annotations

import argparse

from keras_nns.paper.reproduction import reproduce


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--dataset", help="a name or path, as load_dataset takes it")
    parser.add_argument("--output", default="nns_paper")
    parser.add_argument("--overwrite", action="store_true")
    given = parser.parse_args()
    done = reproduce(
        given.folder, dataset=given.dataset, output=given.output, overwrite=given.overwrite
    )
    for name, table in done.tables.items():
        print(f"{name}\n{table}\n")
    print(f"With pictures: {done.folder / 'report.html'}")


if __name__ == "__main__":
    main()
