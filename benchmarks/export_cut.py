"""What shipping a cut network costs and keeps: latency, int8, published sizes, one-label files.

    python benchmarks/export_cut.py FOLDER [latency sizes int8 labels recurrent ...]

FOLDER holds `mnist/`, `fashion_mnist/`, `cifar10/`, `sequence/` and `models/`. Choices (how much to
keep) are fixed here and were made on training data; test data is read once, for the figures.
Latency is of the bare call on one thread, in turns within one run.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from models import resnet20
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset
from keras_nns.shipping.tflite_files import packed
from tflite_export.running.interpreter import Runner

SEED = 0


def latency(flats: Mapping[str, bytes], rounds: int = 15) -> dict[str, float]:
    """Print and give the microseconds of the bare call: the least of each round, in turns."""
    runners = {name: Runner(flat) for name, flat in flats.items()}
    for runner in runners.values():
        runner([np.zeros((1, *slot.shape[1:]), "float32") for slot in runner.inputs])
    best: dict[str, list[float]] = {name: [] for name in flats}
    for number in range(rounds):
        for name in list(flats) if number % 2 == 0 else reversed(list(flats)):
            runner, times = runners[name], []
            end = time.perf_counter() + 0.08
            while time.perf_counter() < end:
                start = time.perf_counter()
                runner.invoke()
                times.append(time.perf_counter() - start)
            best[name].append(1e6 * min(times))
    first = best[next(iter(flats))]
    for name, times in best.items():
        ratio = statistics.median(t / f for t, f in zip(times, first, strict=True))
        print(
            f"  {name:24} {min(times):8.1f} µs, {ratio:.3f} of the first, "
            f"{len(flats[name]):,} bytes"
        )
    return {name: min(times) for name, times in best.items()}


def section_latency(folder: Path) -> None:
    print("\nResNet-20 cut to half of every layer, and the same shape written by hand")
    keras.utils.set_random_seed(SEED)
    parent, hand = resnet20(), resnet20(width=8)
    random = np.random.default_rng(SEED)
    activity = nns.observe(
        parent, random.random((40, 32, 32, 3), "float32"), np.arange(40) % 10, verbose=False
    )
    plan = nns.select(
        activity, labels=0, score=nns.scores.magnitude(parent), keep=nns.fraction(0.5)
    )
    small = nns.cut(parent, plan)
    assert small.count_params() == hand.count_params()
    flats = {
        name: tflite_export.convert(model)
        for name, model in (("parent", parent), ("cut", small), ("by hand", hand))
    }
    adds = {name: tflite_export.anatomy(flat).multiply_adds for name, flat in flats.items()}
    print(f"  multiply-adds: {adds}, cut is {adds['cut'] / adds['parent']:.3f} of the parent")
    latency(flats)
    print("  the cut one against the one by hand:")
    latency({"by hand": flats["by hand"], "cut": flats["cut"]})


def section_sizes(folder: Path) -> None:
    print("\nMLPerf Tiny's ResNet-8 against its published files")
    model = nns.load_model(folder / "models" / "cifar10_resnet8_mlperftiny.h5")
    images = np.load(folder / "cifar10" / "train_first4000_lossless.npz")
    x, y = images["x"].astype("float32"), images["y"]
    for variant, published in (("float32", "float"), ("int8", "int8")):
        theirs = folder / "models" / f"cifar10_resnet8_mlperftiny_{published}.tflite"
        flat = tflite_export.convert(model, quantize=variant, samples=x, targets=y)
        size = theirs.stat().st_size
        print(f"  {variant:8} {len(flat):,} bytes, published {size:,}: {len(flat) / size:.4f}")


def small_cnn() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="scores"),
        ],
        name="small_cnn",
    )


def shuffled(data: Any) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(SEED).permutation(len(data.x_train))
    return data.x_train.reshape(-1, 28, 28, 1)[order], data.y_train[order]


def decided(flat: bytes, x: np.ndarray) -> np.ndarray:
    """Run a file on samples."""
    runner = Runner(flat)
    rows = [runner([x[i : i + 1]])[0] for i in range(len(x))]
    answers = np.concatenate(rows)
    return answers[:, 0] > 0.5 if answers.shape[1] == 1 else answers.argmax(axis=1)


def compared(name: str, small: Any, train: Any, test: Any) -> None:
    """Balanced accuracy of the float32 and the int8 file of one network."""
    reached = []
    for variant in ("float32", "int8"):
        flat = tflite_export.convert(small, quantize=variant, samples=train[0], targets=train[1])
        reached.append(balanced_accuracy_score(test[1], decided(flat, test[0])))
    loss = 100 * (reached[0] - reached[1])
    print(f"  {name:30} {reached[0]:.4f} {reached[1]:.4f}  loses {loss:+.2f} points")


def section_int8(folder: Path) -> None:
    print("\nBalanced accuracy of cut networks, float32 and int8 files, on test data")
    mnist = load_dataset(folder / "mnist")
    fashion = load_dataset(folder / "fashion_mnist")
    keras.utils.set_random_seed(SEED)
    trained = small_cnn()
    trained.compile("adam", "sparse_categorical_crossentropy")
    trained.fit(*[part[:20000] for part in shuffled(fashion)], epochs=3, verbose=0)
    moonflower = nns.load_model(folder / "models" / "mnist_cnn_moonflower.keras")
    for name, data, parent in (("MNIST", mnist, moonflower), ("Fashion-MNIST", fashion, trained)):
        x, y = (part[:6000] for part in shuffled(data))
        test = data.x_test.reshape(-1, 28, 28, 1)
        activity = nns.observe(parent, (x, y), verbose=False)
        score = nns.scores.forward_selection(parent, (x, y))
        for label in (3, 8):
            plan = nns.select(activity, labels=label, score=score, keep=nns.fraction(0.25))
            small = nns.cut(parent, plan, head="binary")
            small = nns.repair(small, parent, (x, y)).model
            compared(
                f"{name}, label {label}",
                small,
                (x, (y == label).astype(int)),
                (test, data.y_test == label),
            )
    residual_int8(folder)


def residual_int8(folder: Path) -> None:
    parent = nns.load_model(folder / "models" / "cifar10_resnet8_mlperftiny.h5")
    images = np.load(folder / "cifar10" / "train_first4000_lossless.npz")
    x, y = images["x"].astype("float32"), images["y"].astype(int)
    pictures, truth = jpeg(folder / "cifar10" / "test_jpeg_10000.zip")
    activity = nns.observe(parent, (x, y), verbose=False)
    for share in (0.9, 0.75):
        plan = nns.select(
            activity, labels=[1, 7], score=nns.scores.contrast, keep=nns.fraction(share)
        )
        small = nns.repair(nns.cut(parent, plan, head="labels"), parent, (x, y)).model
        own, held = np.isin(y, (1, 7)), np.isin(truth, (1, 7))
        compared(
            f"ResNet-8, 2 labels, {share:.0%} of units",
            small,
            (x[own], (y[own] == 7).astype(int)),
            (pictures[held], (truth[held] == 7).astype(int)),
        )


def jpeg(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's test set as JPEG, a folder per class in the order of the labels' names."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
        folders = sorted({name.split("/")[-2] for name in names})
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    labels = [folders.index(name.split("/")[-2]) for name in names]
    return np.stack(images).astype("float32"), np.array(labels)


def section_labels(folder: Path) -> None:
    print("\nTen one-label MNIST networks in int8 with metadata, on the 10,000 test images")
    parent = nns.load_model(folder / "models" / "mnist_cnn_moonflower.keras")
    data = load_dataset(folder / "mnist")
    x, y = (part[:8000] for part in shuffled(data))
    test = data.x_test.reshape(-1, 28, 28, 1)
    activity = nns.observe(parent, (x, y), verbose=False)
    plans = nns.select(
        activity,
        "each",
        score=nns.scores.forward_selection(parent, (x, y)),
        keep=nns.fraction(0.25),
    )
    worst, largest = 1.0, 0
    for label, plan in enumerate(plans):
        small = nns.repair(nns.cut(parent, plan, head="binary"), parent, (x, y)).model
        flat = tflite_export.convert(
            small,
            quantize="int8",
            samples=x,
            targets=(y == label).astype(int),
            labels=[f"digit {label}"],
            normalization=tflite_export.Normalization(0.0, 255.0),
            description=f"Recognises handwritten {label}.",
            files=packed(small),
        )
        reached = balanced_accuracy_score(data.y_test == label, decided(flat, test))
        worst, largest = min(worst, reached), max(largest, len(flat))
        print(
            f"  {label}: {len(flat):,} bytes, {small.count_params():,} parameters, balanced "
            f"accuracy {reached:.4f}"
        )
    print(f"  largest {largest:,} bytes, worst {worst:.4f}")


def section_recurrent(folder: Path) -> None:
    print("\nRecurrent classifiers at a batch of 1: operators, and parity with Keras")
    layers = keras.layers
    x = np.load(folder / "sequence" / "japanese_vowels.npz")["x_test"].astype("float32")
    keras.utils.set_random_seed(SEED)
    for name, layer in {
        "LSTM": layers.LSTM(32),
        "GRU": layers.GRU(32),
        "Bidirectional LSTM": layers.Bidirectional(layers.LSTM(16)),
        "Bidirectional GRU": layers.Bidirectional(layers.GRU(16)),
    }.items():
        model = keras.Sequential(
            [keras.Input(x.shape[1:]), layers.Masking(), layer, layers.Dense(9, "softmax")]
        )
        for unroll in (False, True):
            flat = tflite_export.convert(model, unroll=unroll)
            found = tflite_export.verify(flat, model, x)
            how = "unrolled" if unroll else "loop"
            flex = tflite_export.anatomy(flat).flex
            print(
                f"  {name:20} {how:9} Flex: {len(flex)}, {found.relative:.1e}, {len(flat):,} bytes"
            )


SECTIONS = {
    "latency": section_latency,
    "sizes": section_sizes,
    "int8": section_int8,
    "labels": section_labels,
    "recurrent": section_recurrent,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    given = parser.parse_args()
    print(machine())
    for name in given.sections or SECTIONS:
        SECTIONS[name](given.folder)


if __name__ == "__main__":
    main()
