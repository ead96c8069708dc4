#!/usr/bin/env bash
# KerasHub: a WordPiece tokenizer that keeps Chinese words whole is read back as one that splits them.
#
# Versions: keras-hub 0.32.0, keras 3.15.1, tensorflow 2.21.0.
# Guess: WordPieceTokenizer.from_config(tokenizer.get_config()), with the same vocabulary, gives the
#   same tokens; and so does what a preset or a .keras file holds.
# Happens: get_config leaves split_on_cjk out. With split_on_cjk=False every Chinese, Japanese or
#   Korean word is one token before and single characters afterwards, without a word.
# Seen: [1] before, [2, 3] afterwards.
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras-hub==0.32.0 keras==3.15.1 tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python -W ignore - <<'PYTHON'
from keras_hub.tokenizers import WordPieceTokenizer

vocabulary = ["[UNK]", "東京", "東", "京", "##京"]
tokenizer = WordPieceTokenizer(vocabulary, split_on_cjk=False)
again = WordPieceTokenizer.from_config(tokenizer.get_config())
again.set_vocabulary(vocabulary)
before, afterwards = ([int(token) for token in each("東京")] for each in (tokenizer, again))
print(f"{before} before, {afterwards} afterwards")
assert "split_on_cjk" not in tokenizer.get_config()
assert (before, afterwards) == ([1], [2, 3])
PYTHON
