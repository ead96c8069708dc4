#!/usr/bin/env bash
# Keras: LogitsDistillation compares raw logits unless its loss is a KLDivergence object.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0.
# Guess: LogitsDistillation() and LogitsDistillation(loss="kl_divergence") are the divergence
#   between the softmax of both models' logits, as with loss=keras.losses.KLDivergence().
# Happens: by name (which is the default) no softmax is taken. The logits themselves go into the
#   formula, those below 0 as 1e-7. A student that differs from its teacher can have a lower loss
#   than the teacher itself. Nothing is said.
# Seen:
#   softmax by hand 0.586, object 0.586, name 10.426, default 10.426
#   by name: the teacher itself 0.000, the teacher's logits times 1.3 -0.126
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import numpy as np
from keras.distillation import LogitsDistillation
from keras.losses import KLDivergence

draw = np.random.default_rng(0)
teacher = draw.normal(size=(64, 4)).astype("float32")
student = draw.normal(size=(64, 4)).astype("float32")


def loss(answers, **options):
    return float(LogitsDistillation(temperature=1.0, **options).compute_loss(teacher, answers))


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


p, q = softmax(teacher), softmax(student)
by_hand = float(np.mean(np.sum(p * np.log(p / q), axis=1)))
by_object, by_name = loss(student, loss=KLDivergence()), loss(student, loss="kl_divergence")
print(
    f"softmax by hand {by_hand:.3f}, object {by_object:.3f}, name {by_name:.3f}, "
    f"default {loss(student):.3f}"
)
itself, farther = loss(teacher), loss(1.3 * teacher)
print(f"by name: the teacher itself {itself:.3f}, the teacher's logits times 1.3 {farther:.3f}")
assert abs(by_object - by_hand) < 1e-4
assert by_name == loss(student) and by_name > 5 * by_hand
assert farther < itself - 0.05
PYTHON
