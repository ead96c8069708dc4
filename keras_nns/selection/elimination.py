"""Which units can be spared, one after another, when what reads them is refitted each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm
from scipy.linalg.lapack import dpstrf
from scipy.optimize import isotonic_regression

from keras_nns.engine.blas import one_thread

Float = NDArray[np.float64]

_RIDGE = 1e-3
"""Of each feature's variance, added to it: how little is trusted of what hardly varies."""

_SHARE = 16
"""No more than one in so many of the units that are left goes at once."""

_SPARSE = 0.8
"""What is left of the features is put together where they are fewer than this share of rows."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear map that reads units, and how much its outputs matter.

    Attributes:
        covariance: Of its features, `(features, features)`.
        kernel: `(features, outputs)`.
        importance: How errors of the outputs add up, positive semidefinite `(outputs, outputs)`:
            an error e of all outputs counts `eᵀ · importance · e`.
        units: Numbers of the units it reads, `(read,)`.
        columns: Their features, `(read, features of one)`.
    """

    covariance: Float
    kernel: Float
    importance: Float
    units: NDArray[np.int64]
    columns: NDArray[np.int64]


def eliminate(
    readers: Sequence[Reader], units: Sequence[int], *, at_once: int = 1
) -> tuple[list[int], Float]:
    """Remove units one by one, each time the one whose loss is least, and refit the rest.

    The loss of a unit is how much more the readers' outputs are off for it, each reader refitted by
    least squares to what is left: the optimal brain surgeon (Hassibi and Stork 1993, *NeurIPS*) in
    blocks of all weights of a unit (Kurtic, Frantar and Alistarh 2023, *ZipLM*), with a bias that
    is free.

    Args:
        readers: What reads the units.
        units: Numbers of the units that may go.
        at_once: How many go at most before all losses are reckoned anew: those of least loss, and
            no more than a sixteenth of what is left. More are done sooner, as what is held is gone
            over less often.

    Returns:
        The units, the first to go first; and the loss of each, `(units,)`.
    """
    size = max((len(reader.covariance) for reader in readers), default=0)
    with one_thread(size):
        return _eliminated(readers, units, at_once)


def _eliminated(
    readers: Sequence[Reader], units: Sequence[int], at_once: int
) -> tuple[list[int], Float]:
    states = [_State(reader) for reader in readers]
    left = np.zeros(1 + max([*units, *(int(r.units.max()) for r in readers)]), dtype=bool)
    left[list(units)] = True
    order: list[int] = []
    losses: list[float] = []
    while left.any():
        loss = np.where(left, 0.0, np.inf)
        for state in states:
            state.add_losses(loss, left)
        most = max(1, min(at_once, int(left.sum()) // _SHARE))
        gone = np.argsort(loss, kind="stable")[:most]
        order += gone.tolist()
        losses += loss[gone].clip(0).tolist()
        left[gone] = False
        for state in states:
            state.remove(gone)
    return order, np.array(losses)


def rising(losses: Float) -> Float:
    """Return losses that rise from each removal to the next, with the same sums where they did.

    A unit that is spared cheaply only because a dear one went before it is worth as much as that
    one: the greatest convex curve below the sums. Of equals the first to go is less by a hair.

    Args:
        losses: In the order of removal, `(units,)`.
    """
    if not losses.size:
        return losses
    smooth = isotonic_regression(losses).x
    hair = 1e-9 * max(float(losses.max()), np.finfo(np.float64).tiny)
    return np.asarray(smooth + hair * np.arange(1, len(losses) + 1) / len(losses))


class _State:
    """A reader as it is by now: what is left of its kernel, and the inverse of its covariance."""

    def __init__(self, reader: Reader) -> None:
        variance = np.diag(reader.covariance).clip(0)
        # What never varies is left to the bias.
        varies = variance > 1e-12 * max(float(variance.max(initial=0.0)), 1e-300)
        std = np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        inverse = np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)
        correlation = reader.covariance * np.outer(inverse, inverse)
        correlation[np.diag_indices_from(correlation)] = 1.0 + _RIDGE
        self._inverse = np.linalg.inv(correlation)
        self._kernel = std[:, None] * reader.kernel @ _root(reader.importance)
        self._units, self._columns = reader.units, reader.columns

    def add_losses(self, loss: Float, left: NDArray[np.bool_]) -> None:
        columns, units = self._columns, self._units
        here = left[units]
        columns, units = columns[here], units[here]
        if columns.shape[1] == 1:
            single = columns[:, 0]
            found = np.square(self._kernel[single]).sum(axis=1)
            found /= self._inverse[single, single]
        else:
            blocks = self._inverse[columns[:, :, None], columns[:, None, :]]
            kernels = self._kernel[columns]
            found = (kernels * np.linalg.solve(blocks, kernels)).sum(axis=(1, 2))
        np.add.at(loss, units, found)

    def remove(self, units: NDArray[np.int64]) -> None:
        gone = np.isin(self._units, units)
        if not gone.any():
            return
        columns = self._columns[gone].reshape(-1)
        block = self._inverse[np.ix_(columns, columns)]
        rows = self._inverse[columns]
        gain = np.linalg.solve(block, rows).T
        self._kernel -= gain @ self._kernel[columns]
        # In place, and turned round: the matrix is symmetric, and BLAS counts along columns.
        dgemm(-1.0, rows.T, gain.T, beta=1.0, c=self._inverse.T, overwrite_c=1)
        # Exactly nothing is left of it, whatever rounding says.
        self._kernel[columns] = 0.0
        self._inverse[columns] = self._inverse[:, columns] = 0.0
        self._units, self._columns = self._units[~gone], self._columns[~gone]
        self._gather()

    def _gather(self) -> None:
        """Leave out rows and columns of features that are gone, once there are many."""
        left = np.unique(self._columns)
        if len(left) >= _SPARSE * len(self._kernel):
            return
        self._inverse = np.ascontiguousarray(self._inverse[np.ix_(left, left)])
        self._kernel = self._kernel[left]
        self._columns = np.searchsorted(left, self._columns)


def _root(importance: Float) -> Float:
    """Return R with `R Rᵀ` the importance, `(outputs, directions that matter)`.

    By a Cholesky decomposition that takes the largest that is left first and ends where nothing
    but rounding is left (Higham 1990, "Analysis of the Cholesky decomposition of a semi-definite
    matrix"): a tenth of the time that eigenvectors take.
    """
    diagonal = np.diag(importance)
    if np.count_nonzero(importance) == np.count_nonzero(diagonal):
        return np.asarray(np.diag(np.sqrt(diagonal.clip(0)))[:, diagonal > 0])
    least = 1e-12 * max(float(diagonal.max(initial=0.0)), np.finfo(np.float64).tiny)
    factor, pivots, rank, _ = dpstrf(importance, tol=least, lower=1)
    root = np.empty((len(importance), int(rank)))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root
