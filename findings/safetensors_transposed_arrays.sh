#!/usr/bin/env bash
# safetensors: a transposed numpy array comes back with its numbers in other places.
#
# Versions: safetensors 0.8.0, numpy 2.4.6.
# Guess: safetensors.numpy.save keeps an array's values, whatever its layout in memory, as
#   numpy.save does; or refuses what is not contiguous.
# Happens: it writes the memory as it lies there, under the array's shape. A transposed kernel, or
#   an array in Fortran order, is read back with the right shape and wrong entries, without a word.
# Seen:
#   saved [[0, 3], [1, 4], [2, 5]], read [[0, 1], [2, 3], [4, 5]]
#   the same made contiguous: read as saved; numpy.save: read as saved
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet safetensors==0.8.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import io

import numpy as np
from safetensors.numpy import load, save

kernel = np.arange(6, dtype=np.float32).reshape(2, 3).T


def numpy_again(array):
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return np.load(file)


read = load(save({"kernel": kernel}))["kernel"]
print(f"saved {kernel.astype(int).tolist()}, read {read.astype(int).tolist()}")
fortran = load(save({"kernel": np.asfortranarray(kernel.copy())}))["kernel"]
copied = load(save({"kernel": np.ascontiguousarray(kernel)}))["kernel"]
assert read.shape == kernel.shape and not np.array_equal(read, kernel)
assert not np.array_equal(fortran, kernel)
assert np.array_equal(copied, kernel) and np.array_equal(numpy_again(kernel), kernel)
print("the same made contiguous: read as saved; numpy.save: read as saved")
PYTHON
