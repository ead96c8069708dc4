"""Time of `tflite_export.convert` against the bare converter, and parity on keras.applications.

Both converters get the same model in the same run, in turns; the figure is the median of the
ratios of neighbours, after one unmeasured round. The bare converter is Keras's own
SavedModel export and `TFLiteConverter.from_saved_model` with the options that make it right
(built-in operators, static batch), silenced in the same way, without renaming, metadata or
check sums.

    python benchmarks/export_conversion.py [--rounds 5] [--applications MobileNetV2 ...]
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

import tflite_export
from tflite_export._silence import captured

# Smallest sides that their pooling leaves something of, in pixels.
SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
SIDE = 64
APPLICATIONS = sorted(
    name
    for name, value in vars(keras.applications).items()
    if inspect.isfunction(value) and "weights" in inspect.signature(value).parameters
)


def settle(model: keras.Model, images: np.ndarray) -> None:
    """Give batch normalisations the statistics of their inputs, as training does.

    With others a hundred layers amplify rounding as much as anything else.
    """
    norms = [n for n in model._flatten_layers() if isinstance(n, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)


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
    parser.add_argument("--applications", nargs="*", default=APPLICATIONS)
    given = parser.parse_args()

    if given.rounds:
        print("conversion time, ours / bare (target: at most 1.30)")
    models = (
        small_cnn(),
        keras.applications.MobileNetV2(input_shape=(64, 64, 3), weights=None, classes=10),
    )
    for model in models if given.rounds else ():
        timed(bare, model), timed(tflite_export.convert, model)
        pairs = [
            (timed(bare, model)[0], timed(tflite_export.convert, model)[0])
            for _ in range(given.rounds)
        ]
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        seconds = statistics.median(ours for _, ours in pairs)
        print(f"  {model.name:20} {ratio:.2f}  ({seconds:.2f} s)")

    print("parity with Keras, share of the output's scale (target: at most 1e-5)")
    for name in given.applications:
        size = SIDES.get(name, SIDE)
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(
            # Logits: behind a softmax, untrained weights all answer the same.
            input_shape=(size, size, 3),
            weights=None,
            classes=10,
            classifier_activation=None,
        )
        samples = np.random.default_rng(0).uniform(0, 255, (8, size, size, 3)).astype(np.float32)
        settle(model, samples)
        flat = tflite_export.convert(model)
        try:
            figure = f"{tflite_export.verify(flat, model, samples).relative:.1e}"
        except tflite_export.VerificationError as error:
            figure = f"FAILED: {error}"
        print(f"  {name:20} {figure}  ({len(flat):,} bytes)", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
