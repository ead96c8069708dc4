"""Work that is cut off: what it leaves, and how the command ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from clouds import clouds, trained

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.extraction import networks
from tflite_export.cli.signals import Terminated

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
X, Y = clouds()


@pytest.fixture(scope="module")
def model():
    return trained(X, Y)


@pytest.fixture
def cut_off(monkeypatch):
    """Cut the work off in a repair, the first or a later one."""
    real, times = networks.mend, []

    def set_up(error=KeyboardInterrupt, *, after=0):
        def mend(*given, **options):
            times.append(1)
            if len(times) > after:
                raise error
            return real(*given, **options)

        monkeypatch.setattr(networks, "mend", mend)

    return set_up


def test_a_network_that_was_not_repaired_is_handed_on(model, cut_off, tmp_path):
    cut_off()
    with pytest.raises(KeyboardInterrupt, match="without repair, figures") as stop:
        nns.extract(model, (X, Y), labels=3, budget="parameters=500")
    found = stop.value.found
    assert found.missing == ("repair", "figures") and found.comparison is None
    masked = np.asarray(nns.mask(model, found.plan, head="binary")(X[:50]))
    np.testing.assert_allclose(np.asarray(found.model(X[:50])), masked, atol=1e-6)
    kept = nns.load_model(found.save(tmp_path / "three.keras"))
    assert nns.lineage(kept).plan == found.plan


def test_of_a_search_for_a_drop_the_best_that_was_judged(model, cut_off):
    cut_off(after=4)
    with pytest.raises(KeyboardInterrupt) as stop:
        nns.extract(model, (X, Y), labels=3, budget="drop=0.02")
    found = stop.value.found
    assert found.comparison.drop <= 0.02
    assert "search" in found.missing[0]
    # The whole is not among them: halving had begun.
    assert any(len(units) < found.plan.sizes[name] for name, units in found.plan.kept.items())


def test_before_anything_was_cut_there_is_nothing_to_hand_on(model, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_nns.extraction.budgeted.observe_parent", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        nns.extract(model, (X, Y), labels=3, budget="parameters=500")
    assert not hasattr(stopped.value, "found")


def test_a_sweep_hands_on_the_sizes_that_it_judged(model, cut_off):
    whole = nns.sweep(model, (X, Y), labels=3, sizes=[0.2, 0.5])
    cut_off(after=1)
    with pytest.raises(KeyboardInterrupt) as stop:
        nns.sweep(model, (X, Y), labels=3, sizes=[0.2, 0.5])
    found = stop.value.found
    assert [p.costs for p in found.points] == [p.costs for p in whole.points[:1]]
    assert found.missing == 1 and whole.missing == 0
    assert "Cut off: 1 larger size" in str(found)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_command_that_is_cut_off_writes_beside(
    model, error, status, cut_off, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    nns.save_model(model, "model.keras")
    np.savez("data.npz", x=X, y=Y)
    cut_off(error, after=1)
    asked = ["model.keras", "data.npz", "--label", "3", "--no-scale"]
    made = ["sweep", *asked, "--sizes", "2", "-o", "found.json"]
    assert main(made) == status
    assert len(json.loads((tmp_path / "found.unfinished.json").read_text())["points"]) == 1
    assert main(["extract", *asked, "--budget", "6kB", "-o", "three.tflite"]) == status
    assert "without repair" in capsys.readouterr().err
    assert nns.lineage(nns.load_model("three.unfinished.keras")).head == "binary"
    assert not (tmp_path / "three.tflite").exists() and not (tmp_path / "found.json").exists()
