"""Behind distillation a head is fitted anew only where that is no worse on what is held out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

import keras_nns as nns
from keras_nns.extraction import networks
from keras_nns.extraction.tasks import Recipe
from keras_nns.repairing.patient import Gain
from keras_nns.training.outcome import Trained

STEPS = (nns.steps.least_squares(), nns.steps.calibrate_head())
PARENT = SimpleNamespace(model=None, division=SimpleNamespace(whole=None, share=0.2, seed=0))


@pytest.mark.parametrize(
    ("epoch", "after", "wanted"),
    [(1, 0.8, "taught"), (1, 0.9, "headed"), (1, 0.95, "headed"), (0, 0.95, "cut")],
)
def test_the_head_that_does_better_is_kept_and_told(epoch, after, wanted, monkeypatch):
    gain = Gain("calibrate_head()", None, "balanced acc.", 0.9, after)
    taught = Trained("taught", (), {}, epoch, 100, 20, "rate 0.002")
    monkeypatch.setattr(networks, "distill", lambda *args, **kwargs: taught)
    monkeypatch.setattr(
        networks,
        "_repaired",
        lambda parent, network, steps: replace(
            network, model="headed", repaired=SimpleNamespace(gains=(gain,))
        ),
    )
    first = SimpleNamespace(gains=())
    found = networks._trained(
        PARENT, networks.Network("cut", None, repaired=first), Recipe(STEPS, 1)
    )
    assert found.model == wanted
    assert found.repaired is first
    assert found.trained.best_epoch == epoch
    assert ("fitted anew it gave a balanced acc. 0.8, not 0.9" in found.trained.note) == (
        wanted == "taught"
    )
