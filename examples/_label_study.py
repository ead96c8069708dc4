"""Cut one network per label out of a classifier, and judge them."""

from __future__ import annotations

import keras
import numpy as np
from _sequence_data import Data

import keras_nns as nns
import tflite_export
from keras_nns.graph.tracing import trace

SHARES = (0.125, 0.25, 0.5)
LOSS = 0.01  # balanced accuracy on validation samples that being small may cost on average


def study(model: keras.Model, data: Data, *, quick: bool = False) -> None:
    """Print what the label networks of a trained classifier reach.

    How much to keep is chosen on the validation samples, for all labels alike; the test samples are
    read once, for the tables at the end. `quick` cuts one label in one size.
    """
    groups = [g for g in trace(model).layout.groups if g.prunable]
    print(f"\n{data.name}: {len(data.x_train)} samples to fit, {len(data.x_valid)} to choose with, "
          f"{len(data.x_test)} to test")  # fmt: skip
    print("can be cut:", ", ".join(f"{g.name} ({g.size})" for g in groups))
    activity = nns.observe(model, (data.x_train, data.y_train), label_names=data.labels)
    valid, test = (data.x_valid, data.y_valid), (data.x_test, data.y_test)
    parent = np.mean([row.balanced_accuracy for row in nns.evaluate(model, valid).rows])
    print(f"\nmean balanced accuracy on validation samples: parent {parent:.3f}")
    tried = {}
    for share in SHARES[:1] if quick else SHARES:
        plans = nns.select(activity, "each", score=nns.scores.contrast, keep=nns.fraction(share))
        cuts = [nns.cut(model, plan, head="binary") for plan in plans[: 1 if quick else None]]
        whole = (data.x_train, data.y_train)
        fixed = [nns.repair(cut, model, whole, label_names=data.labels).model for cut in cuts]
        found = float(
            np.mean([nns.evaluate(net, valid).rows[0].balanced_accuracy for net in fixed])
        )
        print(f"  label networks of {share:.1%} of the units, repaired: {found:.3f}")
        tried[share] = found, cuts, fixed
        if found >= parent - LOSS:
            break
    share = max(tried, key=lambda share: tried[share][0])
    _, cuts, fixed = tried[share]
    print(f"chosen: {share:.1%}. On the test samples, parent | cut | cut and repaired:\n")
    print(f"{'label':>8} {'recall':^19} {'specificity':^19} {'balanced accuracy':^19}   parameters")
    kinds = []
    for name, cut, repaired in zip(data.labels, cuts, fixed, strict=False):
        before, after = nns.compare(model, cut, test), nns.evaluate(repaired, test).rows[0]
        rows = (before.before.rows[0], before.after.rows[0], after)
        kinds.append([row.balanced_accuracy for row in rows])
        cells = ["  ".join(f"{getattr(row, figure):5.3f}" for row in rows)
                 for figure in ("recall", "specificity", "balanced_accuracy")]  # fmt: skip
        print(f"{name:>8} {' '.join(cells)} {repaired.count_params():12,}")
    print(f"{'mean':>8} {'':39} {'  '.join(f'{x:5.3f}' for x in np.mean(kinds, axis=0))}"
          f" {model.count_params():6,} whole")  # fmt: skip
    plan = nns.lineage(fixed[-1]).plan
    own = data.labels[plan.labels[0]]
    print(f"\n{own!r} keeps {', '.join(f'{len(k)} {n}' for n, k in plan.kept.items())}")
    flats = {}
    for name, network in (("whole", model), (f"for {own}", fixed[-1])):
        flats[name] = tflite_export.convert(network)
        tflite_export.verify(flats[name], network, data.x_valid[:20])
    print("\nas .tflite, one sample per call, verified against Keras:")
    print(tflite_export.card(flats, data.x_valid[:1]).to_markdown())
