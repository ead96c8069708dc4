#!/usr/bin/env bash
# ai-edge-quantizer: calibration averages the extremes of batches, so what was seen is clipped.
#
# Versions: ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, tensorflow-cpu 2.21.0, keras 3.15.1.
# Guess: calibrate() finds the smallest and largest value over the samples, in whatever batches.
# Happens: it keeps a moving average of the extremes of the batches. With batches of one sample the
#   range found is half of what the samples reach, and what lies outside it cannot be stored; the
#   same samples as one batch give the whole range.
# Seen:
#   Keras answers -1.81 to 1.64; one batch -1.81 to 1.64; batches of one sample -0.88 to 0.74
#   outside that: 8.5% of the numbers, in 71% of the samples
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 \
    tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_quantizer import quantizer, recipe
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8,), name="x"), layers.Dense(16)])
x = np.random.default_rng(0).uniform(-1, 1, (256, 8)).astype("float32")
with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
    flat = tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def range_of_answers(batches):
    tool = quantizer.Quantizer(bytearray(flat))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    found = tool.calibrate({"serving_default": [{"x": batch} for batch in batches]})
    (row,) = (row for name, row in found.items() if not name.startswith("serving_default_x"))
    return float(row["min"].min()), float(row["max"].max())


wanted = model.predict(x, verbose=0)
low, high = float(wanted.min()), float(wanted.max())
one, all_at_once = range_of_answers(np.split(x, len(x))), range_of_answers([x])
outside = float(np.mean((wanted < one[0]) | (wanted > one[1])))
hit = float(np.mean(((wanted < one[0]) | (wanted > one[1])).any(axis=1)))
print(f"Keras answers {low:.2f} to {high:.2f}; one batch {all_at_once[0]:.2f} to "
      f"{all_at_once[1]:.2f}; batches of one sample {one[0]:.2f} to {one[1]:.2f}")  # fmt: skip
print(f"outside that: {outside:.1%} of the numbers, in {hit:.0%} of the samples")
assert np.allclose(all_at_once, (low, high), atol=1e-4)
assert one[0] > 0.8 * low and one[1] < 0.8 * high
PYTHON
