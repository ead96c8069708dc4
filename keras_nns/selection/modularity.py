"""How modular a network is: whether samples of one label use the same units, and of two others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.data.batches import as_batches, unweighted
from keras_nns.errors import DataError
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import undisturbed
from keras_nns.graph.tracing import trace
from keras_nns.observation.probing import Layers, Probe, taps_of

Float = NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class Modularity(tables.Tabular):
    """How alike the units are that samples of labels use. Printing it gives a table.

    Attributes:
        label_names: Name of every label.
        samples: Samples looked at of every label.
        jaccard: For each two labels the mean Jaccard index of the sets of active units of a sample
            of one and a sample of the other, `(labels, labels)`; NaN where there are none.
        cosine: Likewise the mean cosine of their activation vectors, the mean over the layers.
        active: Mean share of the units that a sample of each label activates, `(labels,)`.
        cohesion: Mean of `jaccard` over all pairs of samples of one label.
        coupling: Mean of `jaccard` over all pairs of samples of different labels.
        affinity: Mean of `cosine` over all pairs of samples of one label.
        dispersion: Mean of `cosine` over all pairs of samples of different labels.

    Example:
        >>> found = nns.modularity(model, (x, y))
        >>> found.jaccard.shape  # labels, labels
        (10, 10)
    """

    label_names: tuple[str, ...]
    samples: NDArray[np.int64]
    jaccard: Float
    cosine: Float
    active: Float
    cohesion: float
    coupling: float
    affinity: float
    dispersion: float

    def to_table(self) -> tables.Table:
        """Return each label's figures as a table: with itself, and the mean with the others."""
        rows = []
        for i, name in enumerate(self.label_names):
            others = [
                float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
                for values in (np.delete(self.jaccard[i], i), np.delete(self.cosine[i], i))
            ]
            figures = (self.jaccard[i, i], others[0], self.cosine[i, i], others[1])
            rows.append(
                (
                    name,
                    tables.count(int(self.samples[i])),
                    tables.share(float(self.active[i])),
                    *(tables.share(float(value)) for value in figures),
                )
            )
        columns = ("label", "samples", "active units", "cohesion", "coupling", "affinity")
        caption = (
            f"Over all pairs of samples: cohesion {tables.share(self.cohesion)}, coupling "
            f"{tables.share(self.coupling)} (Jaccard index of active units); affinity "
            f"{tables.share(self.affinity)}, dispersion {tables.share(self.dispersion)} (cosine)."
        )
        return tables.Table((*columns, "dispersion"), tuple(rows), caption)

    def to_json(self) -> Json:
        """Return the figures as plain data, None where one is undefined."""

        def plain(values: Float) -> Any:
            listed: Any = values.tolist()
            return [
                plain(np.asarray(v)) if isinstance(v, list) else None if np.isnan(v) else v
                for v in listed
            ]

        overall = (self.cohesion, self.coupling, self.affinity, self.dispersion)
        names = ("cohesion", "coupling", "affinity", "dispersion")
        return {
            "labels": list(self.label_names),
            "samples": self.samples.tolist(),
            "jaccard": plain(self.jaccard),
            "cosine": plain(self.cosine),
            "active": plain(self.active),
            **dict(zip(names, plain(np.array(overall)), strict=True)),
        }


def modularity(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    layers: Layers = None,
    threshold: float = 0.0,
    samples: int = 50,
    seed: int = 0,
    batch_size: int = 256,
    label_names: Sequence[str] | None = None,
) -> Modularity:
    """Measure how far samples of one label use the same units, and those of others other ones.

    Cohesion and coupling are those of MwT (Qi et al. 2024, "Modularizing while training: a new
    paradigm for modularizing DNN models", ICSE): with Aᵢ the set of units active on sample i,
    J(i, j) = |Aᵢ ∩ Aⱼ| / |Aᵢ ∪ Aⱼ| is averaged over all pairs of samples of the same label
    (cohesion, which is high in a modular network) and of different labels (coupling, low).
    Affinity and dispersion are what MODA trains for (Ngo et al. 2024, "DNN modularization via
    activation-driven training"): the same two means, of the cosine of activation vectors. Here the
    cosine is taken in each layer and averaged over the layers.

    Args:
        model: A built Sequential or functional `keras.Model`. It is not changed.
        data: Labelled samples, as `keras_nns.observe` takes it.
        y: Labels, where `data` is inputs alone.
        layers: As in `observe`; every hidden layer by default.
        threshold: A unit is active where its absolute value, the mean over positions, is above.
        samples: How many samples of each label are compared, drawn at random: pairs grow with the
            square. Memory holds these and one batch.
        seed: Which samples are drawn.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label, in the order of the model's outputs.

    Raises:
        DataError: The data does not fit, a sample has not exactly one label, or fewer than two
            samples of a label are asked for.
        ModelError: The model has no hidden units.

    Example:
        >>> found = nns.modularity(model, (x, y))
        >>> found.cohesion > found.coupling  # samples of one label use more of the same units
        True
    """
    if samples < 2:
        raise DataError(f"`samples` must be at least 2, to make pairs. Received: {samples}.")
    batches = as_batches(data, y, model=model, batch_size=batch_size, label_names=label_names)
    graph = trace(model)
    probe = Probe(graph, taps_of(graph, layers))
    count = len(batches.label_names)
    random = np.random.default_rng(seed)
    held: list[list[list[Float]]] = [[] for _ in range(count)]
    met = [0] * count
    with undisturbed(model):
        for batch in unweighted(batches, "modularity"):
            labels = batch.labels
            if labels.ndim == 2:
                if not (labels.sum(axis=1) == 1).all():
                    raise DataError(
                        "modularity compares samples of one label each. Received: samples with "
                        "none or several."
                    )
                labels = labels.argmax(axis=1)
            values = [np.asarray(v, dtype=np.float64) for v in probe(batch.inputs).values()]
            for row, label in enumerate(labels.tolist()):
                # Each sample so far is held with the same probability (Vitter 1985, algorithm R).
                place = met[label] if met[label] < samples else int(random.integers(met[label] + 1))
                met[label] += 1
                if place < samples:
                    held[label][place : place + 1] = [[v[row] for v in values]]
    truth = np.repeat(np.arange(count), [len(some) for some in held])
    rows = [row for some in held for row in some]
    per_layer = [np.stack(parts) for parts in zip(*rows, strict=True)]
    active = np.abs(np.concatenate(per_layer, axis=1)) > threshold
    alike = _jaccard(active)
    cosine = np.mean([_cosine(values) for values in per_layer], axis=0)
    same, other = _pairs(truth)
    return Modularity(
        label_names=batches.label_names,
        samples=np.bincount(truth, minlength=count),
        jaccard=_by_label(alike, truth, count),
        cosine=_by_label(cosine, truth, count),
        active=np.array([_mean(active[truth == i].mean(axis=1)) for i in range(count)]),
        cohesion=_mean(alike[same]),
        coupling=_mean(alike[other]),
        affinity=_mean(cosine[same]),
        dispersion=_mean(cosine[other]),
    )


def _jaccard(active: NDArray[np.bool_]) -> Float:
    """Jaccard index of every two samples' active units; two that use none are alike."""
    numbers = active.astype(np.float64)
    both = numbers @ numbers.T
    sizes = numbers.sum(axis=1)
    either = sizes[:, None] + sizes - both
    alike = np.ones_like(both)
    np.divide(both, either, out=alike, where=either > 0)
    return alike


def _cosine(values: Float) -> Float:
    """Cosine of every two samples' vectors; of a vector of zeros it is 0."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    units = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return np.asarray(units @ units.T)


def _pairs(truth: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    once = np.triu(np.ones((len(truth), len(truth)), dtype=bool), k=1)
    equal = truth[:, None] == truth
    return once & equal, once & ~equal


def _by_label(values: Float, truth: NDArray[np.int64], count: int) -> Float:
    found = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(count):
            part = values[np.ix_(truth == i, truth == j)]
            chosen = part[np.triu_indices(len(part), k=1)] if i == j else part
            found[i, j] = _mean(chosen)
    return found


def _mean(values: Float) -> float:
    return float(values.mean()) if values.size else float("nan")
