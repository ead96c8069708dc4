#!/usr/bin/env bash
# KerasHub: a Llama with tied embeddings is copied, and read back from its own file, as one without.
#
# Versions: keras-hub 0.32.0, keras 3.15.1, tensorflow 2.21.0.
# Guess: LlamaBackbone.from_config(backbone.get_config()) is a backbone of the same weights, and
#   backbone.save("tied.keras") is a file that load_model reads.
# Happens: get_config leaves tie_word_embeddings out. The copy has a second table of the vocabulary,
#   and the file is refused, for a table of which it has none.
# Seen:
#   21 weights instead of 20; ValueError: Layer 'token_embedding' expected 2 variables, but received
#   0 variables during loading.
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras-hub==0.32.0 keras==3.15.1 tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python -W ignore - <<'PYTHON'
import keras
from keras_hub.models import LlamaBackbone

tied = LlamaBackbone(
    vocabulary_size=30,
    num_layers=2,
    num_query_heads=4,
    hidden_dim=16,
    intermediate_dim=12,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
copy = LlamaBackbone.from_config(tied.get_config())
print(f"{len(copy.weights)} weights instead of {len(tied.weights)}")
assert (len(tied.weights), len(copy.weights)) == (20, 21)
tied.save("tied.keras")
try:
    keras.models.load_model("tied.keras")
except ValueError as error:
    print("ValueError:", next(line for line in str(error).splitlines() if "expected 2" in line))
else:
    raise SystemExit("The file was read back.")
PYTHON
