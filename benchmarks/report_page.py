"""The page of ten labels at three sizes each: how large it is, what it takes, when it is seen.

    python benchmarks/report_page.py

Needs `pip install 'keras-nns[page,browser]'` and Chromium. The paint is Chromium's own
"first-contentful-paint"; a chart counts as seen when Vega has drawn the first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from timing import machine

import keras_nns as nns
from keras_nns.data.named import load_dataset
from keras_nns.demo import trained_on
from keras_nns.reporting import charts, interactive
from keras_nns.reporting.document import surgery_report
from keras_nns.reporting.operation import operate

LOADS = 7
DRAWN = "document.querySelector('#chart-sizes').dataset.drawn"


def seconds(work, *args):
    started = time.process_time()
    found = work(*args)
    return found, time.process_time() - started


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    from playwright.sync_api import sync_playwright

    print(machine())
    data = load_dataset("digits")
    parent, activity, _ = trained_on(data, 0, None)
    plans = [plan for k in (6, 12, 24) for plan in nns.select(activity, "each", keep=nns.top(k))]
    record = operate(parent, activity, plans, data.x_test, data.y_test).record
    still, drawing = seconds(surgery_report, record)
    _, bundling = seconds(charts.javascript)
    page, making = seconds(interactive.interactive_html, still, record)
    print(
        f"{len(page.encode()):,} bytes, of which the charts' library {len(charts.javascript()):,}"
    )
    print(f"processor's seconds: still pictures {drawing:.1f}, library {bundling:.1f}, "
          f"the rest of the page {making:.1f}")  # fmt: skip
    paints, charted = [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        path = Path(folder, "report.html")
        path.write_text(page, encoding="utf-8")
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(LOADS):
            window = browser.new_context()
            tab = window.new_page()
            tab.goto(path.as_uri())
            tab.wait_for_function(DRAWN, timeout=120_000)
            charted.append(tab.evaluate("performance.now()"))
            name = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            paints.append(tab.evaluate(name))
            window.close()
        browser.close()
    for what, found in (("first paint", paints), ("first chart", charted)):
        print(f"{what}: {statistics.median(found):.0f} ms, at most {max(found):.0f} ms")


if __name__ == "__main__":
    main()
