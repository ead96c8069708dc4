"""Several devices and several processes see what one sees (`strategy=`)."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from backends import on_tensorflow

import keras_nns as nns
from keras_nns.data.shards import Shard
from keras_nns.errors import DataError, ModelError

pytestmark = [
    on_tensorflow("tf.distribute"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
SUPPORT = Path(__file__).parents[2] / "support"
ROUNDING = 1e-5


def started(name, *arguments):
    return subprocess.Popen(
        [sys.executable, str(SUPPORT / f"{name}.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def ended(process):
    out, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return json.loads(out)


@pytest.fixture(scope="module")
def replicas():
    return ended(started("on_replicas"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "samples"),
    [("observe", 50), ("shards", 50), ("gathered", 50), ("gathered_eagerly", 48), ("watched", 50)],
)
def test_three_devices_see_what_one_sees(replicas, name, samples):
    found = replicas[name]
    assert (found["counts"], found["samples"]) == (0, samples)
    assert found["means"] < ROUNDING


@pytest.mark.slow
def test_they_see_the_same_each_time_and_leave_the_layers_as_they_were(replicas):
    assert replicas["observe"]["again"] and replicas["observe"]["seen"]
    assert replicas["gathered"]["altered"] == []


@pytest.mark.slow
def test_what_one_device_cannot_take_is_said(replicas):
    assert replicas["nan"].startswith("The inputs hold NaN, infinity")
    assert replicas["dealt_already"].startswith("The data set has been dealt out by a strategy.")


def free_ports():
    """Two ports that stay free: below those that systems deal out to whoever asks for any."""
    found = []
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == 2:
            return found
    pytest.fail("no free port")


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What two processes report, and the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("workers")
    both = [started("two_workers", i, *free, folder) for free in [free_ports()] for i in (0, 1)]
    try:
        return [ended(one) for one in both], folder
    finally:
        for one in both:
            one.kill()
            one.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arrays", "data_set", "passes"])
def test_two_processes_see_what_one_sees(workers, name):
    (first, second), folder = workers
    assert (
        first[name]
        == second[name]
        == ("Activity of 10 units in 2 layers for 3 labels over 53 samples")
    )
    one, other = (nns.Activity.load(folder / f"{name}{i}.npz") for i in (0, 1))
    assert one == other and one.seen.to_json() == other.seen.to_json()
    x, y = np.random.default_rng(0).normal(1, 1, (53, 5)).astype("float32"), np.arange(53) % 3
    model = nns.load_model(folder / "net0.keras")
    alone = nns.observe(model, (x, y), statistics=one.statistics)
    # The files are of another structure to the digest, which knows layers by their paths.
    np.testing.assert_array_equal(one.samples, alone.samples)
    for path, layer in alone.layers.items():
        np.testing.assert_array_equal(one.layers[path].fired, layer.fired)
        np.testing.assert_allclose(one.mean(path), alone.mean(path), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("statistics", "sees other statistics than worker 1. It sees ['fired'], and worker 1 ["),
        ("labels", "sees other labels than worker 1. It sees ['a', 'b', 'x']"),
        ("samples", "sees other numbers of samples than worker 1. It sees 40, and worker 1 53."),
        ("data", "sees other data, or in another order than worker 1."),
        ("shuffled", "sees other data, or in another order than worker 1."),
        ("memory", "sees other layers in a pass than worker 1. It sees [['one'], ['two']]"),
        ("model", "sees other models, or other weights than worker 1."),
    ],
)
def test_workers_that_see_different_things_are_told_so_on_both(workers, case, said):
    reports, _ = workers
    for report in reports:
        assert report[case][0] == "WorkerError"
        assert report[case][1].startswith(f"Worker 2 of 2 {said}"), report[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["stopped", "missing", "once"])
def test_a_worker_that_stops_tells_the_others_why(workers, case):
    (first, second), _ = workers
    assert second[case][0] in ("DataError", "FileError", "SelectionError")
    assert first[case] == ["WorkerError", f"Worker 2 of 2 has stopped: {second[case][1]}"]


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_waited_for_so_long(workers):
    (first, _second), _ = workers
    assert first["alone"] == [
        "WorkerError",
        "Worker 1 of 2 waits for the others, and one of them did not come in 3 seconds. See what "
        "it printed last, and start all of them again.",
    ]
    assert "The strategy deals the data to its 2 workers itself" in first["shard"][1]


# One device, in this process ---------------------------------------------------------------------


def dense(**options):
    return keras.Sequential(
        [keras.Input((4,), **options), keras.layers.Dense(5), keras.layers.Dense(3)], name="net"
    )


X, Y = np.zeros((6, 4), "float32"), np.arange(6) % 3


@pytest.fixture(scope="module")
def strategy():
    return tf.distribute.MirroredStrategy(["CPU:0"])


def test_a_strategy_made_after_the_model_is_refused(strategy):
    with pytest.raises(ModelError, match=r"'net' was made outside the strategy's scope.*/kernel'"):
        nns.observe(dense(), (X, Y), strategy=strategy)


@pytest.mark.parametrize("given", ["mirrored", tf.distribute.get_strategy()])
def test_other_strategies_are_refused(given):
    with pytest.raises(ModelError, match=r"`strategy` is a tf\.distribute\.MirroredStrategy or"):
        nns.observe(dense(), (X, Y), strategy=given)


def test_checkpoints_and_states_do_not_go_with_a_strategy(strategy, tmp_path):
    with strategy.scope():
        model = dense()
        steps = keras.Input((3, 2), batch_size=2)
        kept = keras.Model(steps, keras.layers.Dense(3)(keras.layers.LSTM(4, stateful=True)(steps)))
    with pytest.raises(DataError, match="A checkpoint is of a pass without a strategy"):
        nns.observe(model, (X, Y), strategy=strategy, checkpoint=tmp_path / "half")
    with pytest.raises(ModelError, match=r"are stateful.*or leave a strategy out"):
        nns.observe(kept, np.zeros((6, 3, 2)), Y, strategy=strategy)


def test_one_device_of_a_strategy_sees_the_same(strategy):
    with strategy.scope():
        model = dense()
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    data = (x, np.arange(20) % 3)
    assert nns.observe(model, data, strategy=strategy) == nns.observe(model, data)


def test_every_shard_is_of_a_worker():
    assert [Shard(i, 3).bounds(10, "samples") for i in (1, 2, 3)] == [(0, 3), (3, 6), (6, 10)]
