"""Every architecture of `keras.applications`: traced, cut with random plans, equal to its mask."""

from __future__ import annotations

import json
from pathlib import Path

import architectures as module
import pytest
from architectures import EVERY_SHARE, FAMILIES, SHARES, architectures, measure
from shallow_applications import ALL

from keras_nns.surgery.proving import TOLERANCE


def test_all_families_are_here():
    assert len(architectures()) >= 38


def test_every_architecture_was_measured_and_is_exact():
    measured = json.loads(Path(module.__file__).with_name("applications.json").read_text())
    assert sorted(measured) == architectures()
    for name, found in measured.items():
        assert sorted(found["shares"]) == [str(share) for share in SHARES], name
        assert all(one["difference"] <= TOLERANCE for one in found["shares"].values()), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in architectures() if name in (*EVERY_SHARE, *FAMILIES) or ALL]
)
def test_cut_equals_mask(name):
    """Every share for one architecture, half for one of each family; all of it on request."""
    every = name in EVERY_SHARE or ALL
    result = measure(name, SHARES if every else (0.5,), shallow=not ALL)
    assert result["free"] > 0.2 * result["units"]
    for share, found in result["shares"].items():
        assert found["difference"] <= TOLERANCE
        assert found["parameters"] < 1
        # A plan that changes nothing would prove nothing.
        assert found["effect"] > 1000 * TOLERANCE
        # With few units left a random network answers nearly the same whatever it sees.
        if float(share) == 0.9:
            assert found["spread"] > 1000 * TOLERANCE
