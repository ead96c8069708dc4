"""Ship one handwritten-digit model in several variants and print its deployment card.

    python examples/export_digits.py [FOLDER]

Writes one `.tflite` per variant, each verified against the Keras model, and of the int8 file a C
header and an Arduino sketch. The sketch needs the extra micro, which measures its arena.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import keras
from rich.console import Console
from sklearn.datasets import load_digits

import tflite_export

VARIANTS = ("float32", "float16", "dynamic", "int8")


def main(folder: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32")

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax", name="scores"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:1300], labels[:1300], epochs=15, verbose=0)

    files = {}
    for variant in VARIANTS:
        flat = tflite_export.convert(
            model,
            quantize=variant,
            samples=images[:1300],
            targets=labels[:1300],
            labels=[str(digit) for digit in range(10)],
        )
        result = tflite_export.verify(flat, model, images[1300:], targets=labels[1300:])
        print(f"{variant}: {len(flat):,} bytes, {result.agreement:.1%} same decisions")
        tflite_export.save(flat, folder / f"digits_{variant}.tflite", overwrite=True)
        files[variant] = flat
    header = tflite_export.to_c(files["int8"], "digits_int8")
    tflite_export.save(header, folder / "digits_int8.h", overwrite=True)

    if importlib.util.find_spec("tflite_micro"):
        sketch = folder / "digits_sketch"
        tflite_export.to_c_project(files["int8"], sketch, project="arduino", overwrite=True)
        print(f"{sketch}: {', '.join(sorted(file.name for file in sketch.iterdir()))}")

    card = tflite_export.card(files, images[1300:], targets=labels[1300:])
    Console().print(card.to_table())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
