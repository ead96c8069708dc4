"""Cut a KerasHub language model for one kind of text; it stays a KerasHub model and generates.

    python examples/hub_language_model.py [--quick] [--seed N]

Needs KerasHub: pip install 'keras-nns[hub]'. A small Llama learns to write symbol after symbol of
prose, code and tables. Half of its hidden units go, by what the next layer makes of them on code,
and what is left is refitted without a gradient step. A network with a block less stands beside it.
The refitted one is shipped as a `.tflite` that generates.
"""

import keras
import keras_hub
import numpy as np
from _sequence_data import KINDS, SYMBOLS, lines, options

import keras_nns as nns
import tflite_export

STEPS = 48
given = options(__doc__)
COUNT = 10 if given.quick else 900  # training steps
BLOCKS = 2 if given.quick else 3
PIECES = 60 if given.quick else 1900  # of every kind of text
keras.utils.set_random_seed(given.seed)

# Number 0 is for padding.
text, kind = lines(STEPS, PIECES, given.seed)
text = text + 1
part = np.random.default_rng(given.seed).choice(3, len(text), p=[0.7, 0.15, 0.15])


def told(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return rows of tokens as KerasHub's models take them."""
    return {"token_ids": rows, "padding_mask": np.ones_like(rows)}


backbone = keras_hub.models.LlamaBackbone(
    vocabulary_size=len(SYMBOLS) + 1,
    num_layers=BLOCKS,
    num_query_heads=4,
    num_key_value_heads=2,
    hidden_dim=48,
    intermediate_dim=96,
)
model = keras_hub.models.LlamaCausalLM(backbone, preprocessor=None, name="writer")
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, COUNT)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    sampler="greedy",
)
train = text[part == 0]
rows = np.concatenate([train] * (64 * COUNT // len(train) + 1))[: 64 * COUNT]
model.fit(told(rows[:, :-1]), rows[:, 1:], batch_size=64, verbose=0)

# Which units speak for which kind of text ----------------------------------------------------
seen = part == 0
activity = nns.observe(
    model, (told(text[seen]), kind[seen]), label_names=KINDS, statistics=["mean", "mean_square"]
)
for name, influence in nns.scores.block_influence(activity).items():
    turned = zip(KINDS, influence[:, 0], strict=True)
    print(f"{name} turns " + ", ".join(f"{label} by {value:.2f}" for label, value in turned))

# Half of the hidden units of every block, for code -------------------------------------------
plan = nns.select(
    activity,
    "code",
    score=nns.scores.wanda(model),
    keep=nns.uniform(nns.fraction(0.5)),
    groups="*:hidden",
)
print(nns.prove(model, plan, samples=told(text[:8])))
narrow = nns.cut(model, plan)
own = told(text[seen & (kind == KINDS.index("code"))])
fitted = nns.repair(narrow, model, own, steps=nns.steps.least_squares()).model

# A block less, the one that turns code the least ---------------------------------------------
keep = nns.top(BLOCKS - 1, scope="global")
shallow = nns.cut(model, nns.select(activity, "code", score=nns.scores.block_influence, keep=keep))

networks = {"whole": model, "half as wide": narrow, "refitted": fitted, "a block less": shallow}
test = part == 2
figures = nns.perplexity(networks, told(text[test]), kind[test], label_names=KINDS, batch_size=64)
print(figures)

prompt = text[test & (kind == KINDS.index("code"))][:1]
mask = (np.arange(STEPS) < STEPS // 2).astype("int32")[None]
for name, network in networks.items():
    network.compile(sampler="greedy")
    written = network.generate(
        {"token_ids": prompt * mask, "padding_mask": mask}, stop_token_ids=None
    )
    letters = "".join(SYMBOLS[token - 1] for token in np.asarray(written["token_ids"])[0])
    print(f"{name:13} ({type(network).__name__}): {letters!r}")

# As a file that generates on a device -------------------------------------------------------
flat = tflite_export.convert_generative(fitted, cache_length=STEPS)
print(tflite_export.verify(flat, fitted, told(text[test][:4])))
answer = tflite_export.Generator(flat).generate(prompt[0, : STEPS // 2])
print(f"{len(flat):,} bytes: {''.join(SYMBOLS[token - 1] for token in answer)!r}")
