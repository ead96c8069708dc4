#!/usr/bin/env bash
# Vela: on an Ethos-U55-128 a convolution of 7 channels takes more cycles than one of 8.
#
# Versions: ethos-u-vela 5.2.0 (its own estimate; accelerator ethos-u55-128, otherwise its
#   defaults), tensorflow-cpu 2.21.0, keras 3.15.1.
# Guess: removing a channel makes a layer faster, or at worst no slower.
# Happens: in a 3 x 3 int8 convolution over 28 x 28 places of one channel 7 channels take more
#   cycles than 8, and write more than three times the bytes to SRAM. 17 take 1.4 times the cycles
#   of 16.
# Seen:
#    7 channels:   6540 cycles,  21952 bytes written to SRAM
#    8 channels:   6180 cycles,   6272 bytes written to SRAM
#   16 channels:  11284 cycles,  12544 bytes written to SRAM
#   17 channels:  15807 cycles,  26656 bytes written to SRAM
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet ethos-u-vela==5.2.0 tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import csv
import pathlib
import subprocess
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(10, 28, 28, 1)).astype("float32")
vela = pathlib.Path("venv/bin/vela").resolve()


def estimate(channels):
    model = keras.Sequential(
        [keras.Input((28, 28, 1), batch_size=1), layers.Conv2D(channels, 3, padding="same")]
    )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        file = folder / "model.tflite"
        file.write_bytes(converter.convert())
        options = ["--accelerator-config", "ethos-u55-128", "--output-dir", str(folder)]
        subprocess.run([vela, str(file), *options], check=True, capture_output=True)
        (summary,) = folder.glob("*summary*.csv")
        row = next(csv.DictReader(summary.open()))
        return float(row["cycles_total"]), float(row["sram_feature_map_write_bytes"])


found = {channels: estimate(channels) for channels in (7, 8, 16, 17)}
for channels, (cycles, written) in found.items():
    print(f"{channels:2} channels: {cycles:6.0f} cycles, {written:6.0f} bytes written to SRAM")
assert found[7][0] > found[8][0] and found[7][1] > 2 * found[8][1]
assert found[17][0] > 1.2 * found[16][0]
PYTHON
