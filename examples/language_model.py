"""Cut a GPT-like language model for one kind of text, and see what it forgets.

    python examples/language_model.py [--quick] [--seed N]

A causal transformer of Keras core layers learns to write symbol after symbol of prose, code and
tables. The model's outputs are symbols; the labels it is watched by are the kinds of text.
"""

import time

import keras
import numpy as np
from _sequence_data import KINDS, SYMBOLS, lines, options
from keras import layers, ops

import keras_nns as nns
import tflite_export

STEPS, WIDTH, HEADS, HIDDEN = 48, 48, 6, 128
SHARES = ((0.5, 0.25), (0.5, 0.5), (0.75, 0.5), (1, 0.5))  # of heads, of feed-forward units
WORSE = 1.10  # how much perplexity on its own kind a cut may cost, on validation text
given = options(__doc__)
COUNT = 20 if given.quick else 700  # training steps
BLOCKS = 1 if given.quick else 2
PIECES = 150 if given.quick else 1900  # of every kind of text
keras.utils.set_random_seed(given.seed)

# One symbol more than the model reads: the last is only to be foretold.
text, kind = lines(STEPS + 1, PIECES, given.seed)
part = np.random.default_rng(given.seed).choice(3, len(text), p=[0.7, 0.15, 0.15])


def of_kind(which: int, number: int) -> np.ndarray:
    return text[(part == which) & (kind == number)]


inputs = keras.Input((STEPS,), dtype="int32", name="symbols")
positions = ops.cumsum(ops.ones_like(inputs), axis=1) - 1
x = layers.Embedding(len(SYMBOLS), WIDTH, name="symbol")(inputs)
x = x + layers.Embedding(STEPS, WIDTH, name="position")(positions)
for block in range(BLOCKS):
    y = layers.LayerNormalization()(x)
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention_{block}")
    x = x + attention(y, y, use_causal_mask=True)
    y = layers.LayerNormalization()(x)
    y = layers.Dense(HIDDEN, activation="gelu", name=f"hidden_{block}")(y)
    x = x + layers.Dense(WIDTH, name=f"back_{block}")(y)
logits = layers.Dense(len(SYMBOLS), name="next_symbol")(layers.LayerNormalization()(x))
model = keras.Model(inputs, logits, name="writer")
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, COUNT)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
train = text[part == 0]
started = time.monotonic()
batches = 64 * COUNT
train = np.concatenate([train] * (batches // len(train) + 1))[:batches]
model.fit(train[:, :-1], train[:, 1:], batch_size=64, epochs=1, verbose=0)
print(
    f"trained on {(part == 0).sum()} pieces of {STEPS} symbols, {time.monotonic() - started:.0f} s"
)


def perplexity(network: keras.Model, rows: np.ndarray) -> float:
    """Return the exponential of the mean loss on a symbol, in nats."""
    compiled = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = [float(compiled(r[:, 1:], network(r[:, :-1], training=False))) * len(r)
              for r in np.array_split(rows, max(1, len(rows) // 64))]  # fmt: skip
    return float(np.exp(sum(losses) / len(rows)))


def is_attention(layer: keras.Layer) -> bool:
    return isinstance(layer, layers.MultiHeadAttention)


watched = part == 0
seen = (text[watched, :-1], kind[watched])
heads = nns.observe(model, seen, label_names=KINDS, layers=is_attention)
hidden = [f"hidden_{block}" for block in range(BLOCKS)]
units = nns.observe(model, seen, label_names=KINDS, layers=hidden)
print("heads of the first block, how much each adds on each kind of text:")
print(np.round(heads.mean("attention_0:heads"), 2))

networks = {"whole": model}
for number, name in enumerate(KINDS[:1] if given.quick else KINDS):
    own, most = of_kind(1, number), WORSE * perplexity(model, of_kind(1, number))
    print(f"\n{name}, validation text: {most / WORSE:.2f} whole")
    for some_heads, some_units in SHARES[:1] if given.quick else SHARES:
        # What was not observed stays, so the two plans meet in what both leave.
        plan = nns.select(
            heads, labels=name, score="mean_activation", keep=nns.fraction(some_heads)
        )
        plan &= nns.select(
            units, labels=name, score="mean_activation", keep=nns.fraction(some_units)
        )
        small = nns.cut(model, plan)
        rows = of_kind(0, number)[:400, :-1]
        fixed = nns.repair(small, model, rows, steps=nns.steps.least_squares()).model
        before, after = perplexity(small, own), perplexity(fixed, own)
        kept = f"{some_heads:.0%} of heads, {some_units:.0%} of feed-forward units"
        print(f"  {kept}: {before:.2f} cut, {after:.2f} refitted")
        networks[f"for {name}"] = fixed
        if after <= most:
            break

print(
    f"\nperplexity on held-out text\n{'':12}"
    + "".join(f"{kind:>9}" for kind in KINDS)
    + "  weights"
)
for name, network in networks.items():
    found = "".join(f"{perplexity(network, of_kind(2, k)):9.2f}" for k in range(len(KINDS)))
    print(f"{name:12}{found}{network.count_params():9}")

flats = {}
for name, network in networks.items():
    flats[name] = tflite_export.convert(network)
    tflite_export.verify(flats[name], network, of_kind(2, 0)[:4, :-1])
print(f"\n{tflite_export.card(flats, text[:1, :-1]).to_markdown()}")
