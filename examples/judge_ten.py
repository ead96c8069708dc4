"""Judge ten one-digit networks, and what they decide together, so that nobody is fooled.

python examples/judge_ten.py [--quick]

--quick judges four, trained little, to see that it runs.
"""

import argparse

import keras
from sklearn.datasets import load_digits

import keras_nns as nns

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
DIGITS = 4 if given.quick else 10
UNITS = 4  # of 64, for each digit
EPOCHS = 2 if given.quick else 20

keras.utils.set_random_seed(0)
digits = load_digits(n_class=DIGITS)
# One part to make networks from, one to calibrate on, one to judge on; no sample is in two.
parts = nns.split((digits.data / 16).astype("float32"), digits.target)
print(parts)
model = keras.Sequential(
    [
        keras.Input((64,), name="pixels"),
        keras.layers.Dense(64, activation="relu", name="hidden"),
        keras.layers.Dense(DIGITS, activation="softmax", name="digit"),
    ],
    name="parent",
)
adam = keras.optimizers.Adam(0.005)
model.compile(adam, "sparse_categorical_crossentropy")
model.fit(*parts.observe, epochs=EPOCHS, batch_size=32, verbose=0)

# One yes/no network for each digit, made from the first part alone, without a gradient step.
activity = nns.observe(model, parts.observe, verbose=False)
score = nns.scores.forward_selection(model, parts.observe)
networks = []
for plan in nns.select(activity, "each", score=score, keep=nns.top(UNITS)):
    small = nns.cut(model, plan, head="binary")
    networks.append(nns.repair(small, model, parts.observe).model)

# Each beside its parent, asked the same question: is it this digit?
print(f"\n{len(networks)} networks, each at its own question, on the test part")
print("digit  recall  specificity  balanced accuracy  parent's balanced accuracy")
for digit, small in enumerate(networks):
    found = nns.compare(model, small, parts.test)
    (own,), (parents,) = found.after.rows, found.before.rows
    print(
        f"{digit:5}  {own.recall:6.3f}  {own.specificity:11.3f}  {own.balanced_accuracy:17.3f}"
        f"  {parents.balanced_accuracy:26.3f}"
    )

# What do they say together? One model that decides among all, its scores calibrated on the second
# part; beside it the same networks uncalibrated, and a network of the same shape that was never
# cut out of anything.
whole = nns.compose(networks, *parts.calibrate)
fresh = nns.from_scratch(whole, parts.observe, epochs=EPOCHS, batch_size=32).model
found = nns.compare(
    model,
    whole,
    parts.test,
    beside={"uncalibrated": nns.compose(networks), "from scratch": fresh},
    confidence=0.95,
)
print("\nall together, on the test part")
for name, figures in [
    ("parent", found.before),
    ("composition", found.after),
    *((one.name, one.figures) for one in found.beside),
]:
    low, high = figures.intervals["accuracy"]
    print(f"{name:>12}: accuracy {figures.accuracy:.3f} ({low:.3f} to {high:.3f})")
print(found.to_costs_table())

# Which units do digits share, and does the parent use other units for other digits?
shared = nns.overlap(networks)
print(f"\nof the units that two of the networks keep, they share {shared.coupling:.0%} on average")
print(shared.to_sharing_table())
print(nns.modularity(model, parts.calibrate))
