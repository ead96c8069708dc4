#!/usr/bin/env bash
# Keras: AUC is 0.5 for a perfect ranking whose probabilities are all small.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0, scikit-learn 1.9.1.
# Guess: keras.metrics.AUC depends on the order of the scores alone, as scikit-learn's does, with a
#   small error for its 200 thresholds.
# Happens: the thresholds are equally far apart in 0..1, so probabilities below 1/199 (a rare label)
#   all lie in one step and count as one and the same answer: no order is seen. The same holds for
#   probabilities above 198/199.
# Seen:
#   scikit-learn 1.000, Keras 0.500, Keras with the scores times 200 1.000
#   average precision: scikit-learn 1.000, Keras 0.100
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 scikit-learn==1.9.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import numpy as np
from keras.metrics import AUC
from sklearn.metrics import average_precision_score, roc_auc_score

draw = np.random.default_rng(0)
truth = np.repeat([0, 1], [900, 100])
scores = np.concatenate([draw.uniform(0, 0.002, 900), draw.uniform(0.002, 0.004, 100)])


def area(values, **options):
    metric = AUC(**options)
    metric.update_state(truth, values)
    return float(metric.result())


exact, keras, spread = roc_auc_score(truth, scores), area(scores), area(200 * scores)
print(f"scikit-learn {exact:.3f}, Keras {keras:.3f}, Keras with the scores times 200 {spread:.3f}")
precision, theirs = average_precision_score(truth, scores), area(scores, curve="PR")
print(f"average precision: scikit-learn {precision:.3f}, Keras {theirs:.3f}")
assert exact == 1.0 and precision == 1.0
assert abs(keras - 0.5) < 1e-6 and abs(theirs - 0.1) < 1e-6
assert spread > 0.99
PYTHON
