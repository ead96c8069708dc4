"""Time of `tflite_export.convert` against the bare converter.

Both converters get the same model in the same run, in turns; the figure is the median of the
ratios of neighbours, after one unmeasured round. The bare converter is Keras's own
SavedModel export and `TFLiteConverter.from_saved_model` with the options that make it right
(built-in operators, static batch), silenced in the same way, without renaming, metadata or
check sums.

    python benchmarks/export_conversion.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import keras
import tensorflow as tf

import tflite_export
from tflite_export.running.silence import captured


def bare(model: keras.Model) -> bytes:
    with captured(), tempfile.TemporaryDirectory() as folder:
        signature = [
            keras.InputSpec(shape=(1, *tensor.shape[1:]), dtype=tensor.dtype)
            for tensor in model.inputs
        ]
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve", lambda x: {"out": model(x, training=False)}, input_signature=signature
        )
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return bytes(converter.convert())


def small_cnn() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="small_cnn",
    )


def timed(function: object, model: keras.Model) -> tuple[float, bytes]:
    start = time.perf_counter()
    flat = function(model)  # type: ignore[operator]
    return time.perf_counter() - start, flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()

    print("conversion time, ours / bare (target: at most 1.30)")
    models = (
        small_cnn(),
        keras.applications.MobileNetV2(input_shape=(64, 64, 3), weights=None, classes=10),
    )
    for model in models:
        timed(bare, model), timed(tflite_export.convert, model)
        pairs = [
            (timed(bare, model)[0], timed(tflite_export.convert, model)[0])
            for _ in range(given.rounds)
        ]
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        seconds = statistics.median(ours for _, ours in pairs)
        print(f"  {model.name:20} {ratio:.2f}  ({seconds:.2f} s)")


if __name__ == "__main__":
    main()
