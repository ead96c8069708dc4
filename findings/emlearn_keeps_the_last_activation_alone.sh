#!/usr/bin/env bash
# emlearn: a layer of activation replaces the one before it, and a ReLU loses its limit.
#
# Versions: emlearn 0.23.2, tensorflow-cpu 2.21.0, keras 3.15.1. Needs a C compiler.
# Guess: a Sequential that `emlearn.convert` takes without a word answers in C as in Keras; it says
#   what it does not take, such as a ReLU with a slope.
# Happens: an activation layer takes the place of the activation that the Dense before it has, and
#   `ReLU(max_value=6)` becomes a plain ReLU.
# Seen (largest difference of a probability, share of equal decisions):
#   Dense, ReLU:              0.000, 1.000
#   Dense, ReLU(max_value=6): 0.817, 0.965
#   Dense("tanh"), ReLU:      0.713, 0.835
#   and with the limit, or the tanh, left out in Keras the two agree again
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet emlearn==0.23.2 scikit-learn==1.9.1 tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import emlearn
import keras
import numpy as np
from keras import layers

x = 6 * np.random.default_rng(0).normal(size=(200, 4)).astype("float32")


def network(first, second):
    keras.utils.set_random_seed(0)
    dense = layers.Dense(8, first)
    return keras.Sequential([keras.Input((4,)), dense, second, layers.Dense(3, "softmax")])


def apart(model, other):
    in_keras = other.predict(x, verbose=0)
    in_c = np.asarray(emlearn.convert(model).predict_proba(x))
    same = (in_c.argmax(axis=1) == in_keras.argmax(axis=1)).mean()
    return np.abs(in_c - in_keras).max(), same


plain = network(None, layers.ReLU())
for name, model, differs in (
    ("Dense, ReLU", plain, False),
    ("Dense, ReLU(max_value=6)", network(None, layers.ReLU(max_value=6)), True),
    ('Dense("tanh"), ReLU', network("tanh", layers.ReLU()), True),
):
    difference, same = apart(model, model)
    print(f"{name}: {difference:.3f}, {same:.3f}")
    assert (difference > 0.5) == differs and (same < 1) == differs
    # What was left out is all that is missing.
    assert apart(model, plain)[0] < 1e-4
PYTHON
