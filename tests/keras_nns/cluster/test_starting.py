"""Without Ray one clear error says what to install; with it wrong numbers are named."""

from __future__ import annotations

import sys

import pytest

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.cluster import starting
from keras_nns.errors import BackendError, DataError


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(BackendError, match=r"pip install 'keras-nns\[ray\]'"):
        nns.distributed.observe("model.keras", None)


def test_the_command_names_the_extra_too(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert main(["observe", "net.keras", "data.parquet", "--ray", "-o", "no.npz"]) == 1
    assert "pip install 'keras-nns[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"workers": True}, {"threads": 1.5}, {"gpus": -1}]
)
def test_numbers_that_make_no_sense_are_named(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        starting.worker_count(**{"workers": 1, "threads": 1, "gpus": 0, **wrong})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--workers 2", "--workers goes with --ray"),
        ("--y label", "--y goes with --ray"),
        ("--ray --shard 1/2", "--shard is of one process"),
        ("--ray --checkpoint c.npz", "--checkpoint is of one process"),
    ],
)
def test_options_that_do_not_go_together_are_named(options, said, capsys):
    assert main(f"observe net.keras data.npz {options} -o no.npz".split()) == 1
    assert said in capsys.readouterr().err
