"""A page of `to_web` in headless Chromium beside LiteRT: decisions on a thousand images.

    npm pack @litertjs/core@2.5.3
    python benchmarks/web_page.py --data FOLDER --library litertjs-core-2.5.3.tgz

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files and
`models/mnist_cnn_moonflower.keras`. Needs Chromium or Chrome on the path. The page is opened from
disk, as a person would, and asked for one image after another; LiteRT is its interpreter in Python,
one thread. Nothing is trained and nothing chosen: the first images of the test set are read, ranges
are those of training images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset
from tflite_export.browser import chromium
from tflite_export.running.interpreter import Runner

VARIANTS = ("float32", "int8_float", "dynamic")
AT_ONCE = 100
ASK = """
(async (all) => {
  const found = [];
  for (const one of all) found.push((await window.network.answer([one]))[0]);
  return found.map((one) => Array.from(one));
})(%s)
"""


class Browser(chromium.Browser):
    """What its console says stands in `complaints`."""

    def __init__(self, path: str) -> None:
        self.complaints: list[str] = []
        super().__init__(path)

    def note(self, told: Any) -> None:
        thrown = told["method"] == "Runtime.exceptionThrown"
        if thrown or told.get("params", {}).get("type") == "error":
            self.complaints.append(json.dumps(told["params"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA"))
    parser.add_argument("--library", help="the npm package (default: node_modules here or above)")
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    program = chromium.program()
    if program is None:
        parser.error("there is no Chromium: apt-get install chromium")
    print(machine())
    data = load_dataset(given.data / "mnist")
    model = nns.load_model(given.data / "models" / "mnist_cnn_moonflower.keras")
    x = data.x_test[: given.images].reshape(-1, 28, 28, 1).astype("float32")
    y = data.y_test[: given.images]
    ranges = data.x_train[:500].reshape(-1, 28, 28, 1).astype("float32")
    browser = Browser(program)
    print(browser.ask("Browser.getVersion")["product"])
    try:
        for variant in VARIANTS:
            flat = tflite_export.convert(model, quantize=variant, samples=ranges)
            runner = Runner(flat)
            expected = np.concatenate([runner([one[None]])[0] for one in x])
            with tempfile.TemporaryDirectory() as place:
                page = tflite_export.to_web(flat, Path(place, "page"), library=given.library)
                browser.open(page / "index.html")
                browser.run("window.network.ready")
                found = np.concatenate(
                    [
                        browser.run(ASK % json.dumps([one.ravel().tolist() for one in part]))
                        for part in np.split(x, range(AT_ONCE, len(x), AT_ONCE))
                    ]
                )
            same = int((found.argmax(1) == expected.argmax(1)).sum())
            print(
                f"{variant}: same decisions {same:,} of {len(x):,}, largest difference of a score "
                f"{np.abs(found - expected).max():.1e}, right {(found.argmax(1) == y).mean():.4f}",
                flush=True,
            )
        print(f"complaints in the console: {len(browser.complaints)}")
    finally:
        browser.end()


if __name__ == "__main__":
    main()
