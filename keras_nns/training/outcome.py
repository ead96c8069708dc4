"""What came of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras

from keras_nns import tables
from keras_nns.files.atomic import Json
from keras_nns.repairing.patient import Gain


@dataclass(frozen=True, eq=False, repr=False)
class Trained(tables.Tabular):
    """A subnetwork after some training, and what the training gained. Printing it gives a table.

    Attributes:
        model: The trained subnetwork, a new model.
        gains: What changed on the samples held out: their loss, and what `repair` measures.
        history: For each of Keras's own measures, its value after each epoch; `val_` is of the
            samples held out.
        best_epoch: The epoch whose weights were kept; 0 where training made nothing better.
        samples: How many samples it was trained on.
        held_out: How many others it was judged on.
        note: What was chosen, and why: the rate, and which weights were kept. "" where nothing was.

    Example:
        >>> tuned = nns.fine_tune(three, (x, y))
        >>> tuned.samples, tuned.held_out, len(tuned.history["val_loss"])
        (1080, 120, 1)
    """

    model: keras.Model
    gains: tuple[Gain, ...]
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    samples: int
    held_out: int
    note: str = ""

    def to_table(self) -> tables.Table:
        """Return the gains as a table."""
        rows = tuple(
            (gain.measure, _figure(gain.before), _figure(gain.after)) for gain in self.gains
        )
        epochs = max((len(values) for values in self.history.values()), default=0)
        kept = f"the weights of epoch {self.best_epoch}" if self.best_epoch else "the old weights"
        if self.held_out:
            judged = f"kept {kept} of {epochs}, measured on {self.held_out:,} others"
        else:
            judged = "and measured on the same"
        caption = f"Trained on {self.samples:,} samples, {judged}."
        if self.note:
            caption += f"\n{self.note[0].upper()}{self.note[1:]}."
        return tables.Table(("measure", "before", "after"), rows, caption)

    def to_json(self) -> Json:
        """Return the gains and the history as plain data, None where there is no figure."""
        return {
            "samples": self.samples,
            "held_out": self.held_out,
            "best_epoch": self.best_epoch,
            "note": self.note,
            "history": {name: [_plain(v) for v in values] for name, values in self.history.items()},
            "gains": [
                {
                    "step": gain.step,
                    "measure": gain.measure,
                    "before": _plain(gain.before),
                    "after": _plain(gain.after),
                }
                for gain in self.gains
            ],
        }


def _figure(value: float | None) -> str:
    return "" if value is None else tables.UNDEFINED if math.isnan(value) else f"{value:.4g}"


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
