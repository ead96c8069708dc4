"""On Ray's workers every sample counts once, also where one is killed; wrong uses are named."""

from __future__ import annotations

import os
import signal
import time

import keras
import numpy as np
import pandas as pd
import pytest

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.cluster import coordination, reading
from keras_nns.cluster.columns import choose
from keras_nns.cluster.observing import Observing
from keras_nns.cluster.replicas import ModelFile, Replica
from keras_nns.errors import DataError, WorkerError
from keras_nns.observation.activity import STATISTICS

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'keras-nns[ray]'")
pytest.importorskip("ray.data", reason="needs Ray's data sets: pip install 'keras-nns[ray]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
layers = keras.layers


@pytest.fixture(scope="module", autouse=True)
def _ray():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _units_of_one_batch(monkeypatch):
    monkeypatch.setattr(reading, "_FIRST", 1)
    monkeypatch.setattr(reading, "_MOST", 1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1), name="image"),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(7, activation="tanh", name="dense"),
            layers.Dense(3, activation="softmax", name="answer"),
        ],
        name="net",
    )


@pytest.fixture(scope="module")
def net(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.keras"
    nns.save_model(model, path)
    return path


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    return random.normal(3, 1, (997, 6, 6, 1)).astype("float32"), random.integers(0, 3, 997)


@pytest.fixture(scope="module")
def parquet(arrays, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("parquet"))
    x, y = arrays
    rows = ray.data.from_items([{"image": a, "label": int(b)} for a, b in zip(x, y, strict=True)])
    rows.write_parquet(folder)
    return folder


def check_same(found, whole):
    """Counts bit for bit, means to 1e-6."""
    assert found.fingerprint == whole.fingerprint and list(found.layers) == list(whole.layers)
    assert found.shards is None and str(found) == str(whole)
    np.testing.assert_array_equal(found.samples, whole.samples)
    for name, layer in whole.layers.items():
        for kind, array in layer.arrays().items():
            mine = found.layers[name].arrays()[kind]
            if array.dtype.kind == "i" or kind == "maximum":
                np.testing.assert_array_equal(mine, array)
            else:
                largest = layer.square if kind == "deviation" else array
                assert np.abs(mine - array).max() <= 1e-6 * np.abs(largest).max(), kind


def test_a_killed_worker_changes_no_count(net, parquet, model, arrays, monkeypatch):
    """One of two is killed by the system when the other has handed in some of the work."""
    begun, taken_back, alive = {}, [], []
    begin, receive = coordination._Coordinator._begin, coordination._Coordinator._receive
    lost = coordination.Ledger.lost

    def note(self, worker, said):
        begun[worker.number] = said.process
        begin(self, worker, said)
        if len(begun) == 1:
            # Both are at work before one is killed.
            worker.begun = False
            alive.append(worker)
        for one in alive if len(begun) > 1 else []:
            one.begun = True

    def kill(self, worker, receipt, found):
        receive(self, worker, receipt, found)
        if receipt.number == 8:
            other = next(w for w in self._workers if w is not worker)
            assert self._ledger.held_by(other.number)
            os.kill(begun[other.number], signal.SIGKILL)

    def take_back(self, worker, why):
        taken_back.append(self.held_by(worker))
        lost(self, worker, why)

    monkeypatch.setattr(coordination._Coordinator, "_begin", note)
    monkeypatch.setattr(coordination._Coordinator, "_receive", kill)
    monkeypatch.setattr(coordination.Ledger, "lost", take_back)
    data = ray.data.read_parquet(parquet)
    options = {"statistics": STATISTICS, "batch_size": 16}
    found = nns.distributed.observe(net, data, workers=2, **options)
    assert len(taken_back) == 1 and taken_back[0] > 0
    check_same(found, nns.observe(model, arrays, **options))
    # It is of this process, and no view of what Ray holds.
    assert all(a.flags.writeable for one in found.layers.values() for a in one.arrays().values())


def here(model_file, data, *, x=None, y=None, **settings):
    """What a worker finds that is this process, all of its units added; or what it is told."""
    settings = {"statistics": ("fired", "mean"), "batch_size": 16, **settings}
    work = Observing({k: v for k, v in settings.items() if k != "batch_size"}, 16)
    worker = Replica({})
    file = ModelFile(model_file.read_bytes(), model_file.name)
    begun = worker.begin(work, file)
    if isinstance(begun, Exception):
        raise begun
    columns = choose(x, y, data.columns(), begun.inputs)
    source = reading.Source(data, columns.names, batch_size=16, workers=1, least=0)
    total = None
    while not source.ended:
        unit = source.take(wait=1)
        if unit is not None:
            receipt, found = worker.run(unit.number, unit.pieces, columns)
            if isinstance(receipt, Exception):
                source.close()
                raise receipt
            total = found if total is None else total + found
    return total


def test_numpy_files(model, net, arrays, tmp_path):
    """One for each label, which their names tell."""
    x, y = arrays
    for label in range(3):
        np.save(tmp_path / f"{label}.npy", x[y == label])
    data = ray.data.read_numpy(str(tmp_path), include_paths=True).map_batches(
        lambda rows: {"x": rows["data"], "y": np.array([int(p[-5]) for p in rows["path"]])}
    )
    check_same(here(net, data), nns.observe(model, arrays, batch_size=16))


def test_a_table_of_numbers(tmp_path):
    """Columns of Parquet that are the features of one input, and lists of numbers."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)])
    nns.save_model(model, tmp_path / "net.keras")
    random = np.random.default_rng(2)
    x, y = random.normal(size=(40, 3)).astype("float32"), random.integers(0, 2, 40)
    columns = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "all": list(x), "kind": y}
    pd.DataFrame(columns).to_parquet(tmp_path / "table.parquet")
    data = ray.data.read_parquet(str(tmp_path / "table.parquet"))
    whole = nns.observe(model, x, y, batch_size=16)
    check_same(here(tmp_path / "net.keras", data, x=["a", "b", "c"], y="kind"), whole)
    check_same(here(tmp_path / "net.keras", data, x="all", y="kind"), whole)


def test_images_by_folder(model, net, tmp_path):
    from PIL import Image
    from ray.data.datasource.partitioning import Partitioning

    random = np.random.default_rng(3)
    for number, name in enumerate(["ant", "bee", "cow"]):
        (tmp_path / name).mkdir()
        for i in range(4 + number):
            pixels = random.integers(0, 256, (6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    parts = Partitioning("dir", field_names=["label"], base_dir=str(tmp_path))
    data = ray.data.read_images(str(tmp_path), partitioning=parts)
    data = data.map_batches(
        lambda rows: {"image": rows["image"][..., None] / np.float32(255), "label": rows["label"]}
    )
    names = ["ant", "bee", "cow"]
    found = here(net, data, label_names=names)
    assert found.samples.tolist() == [4, 5, 6]
    check_same(found, nns.observe(model, tmp_path))


@keras.saving.register_keras_serializable("tests")
class OfItsOwn(layers.Dense):
    """Has other weights in every process."""

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.bias.assign(keras.ops.full(self.bias.shape, float(os.getpid())))


def test_workers_that_see_different_models_are_named(arrays):
    odd = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(4, "relu"), OfItsOwn(3)]
    )
    with pytest.raises(WorkerError, match=r"sees other models, or other weights than worker \d"):
        rows = [{"x": a, "y": int(b)} for a, b in zip(*arrays, strict=True)]
        data = ray.data.from_items(rows)
        nns.distributed.observe(odd, data, workers=2, custom_objects={"OfItsOwn": OfItsOwn})


def test_what_is_wrong_with_the_data_is_told(net, arrays):
    x, y = arrays
    spoiled = x[:60].copy()
    spoiled[50] = np.nan
    rows = [{"image": a, "label": int(b)} for a, b in zip(spoiled, y, strict=False)]
    with pytest.raises(DataError, match="The inputs hold NaN"):
        here(net, ray.data.from_items(rows))
    with pytest.raises(DataError, match="the data comes in a stream: pass label_names"):
        here(net, ray.data.from_items([{"image": x[0], "label": "ant"}]))


def test_wrong_uses_are_told_before_anything_starts(net, parquet, arrays):
    data = ray.data.read_parquet(parquet)
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"no column 'pixels'. Its columns: image, label"):
        nns.distributed.observe(net, data, x="pixels")
    with pytest.raises(DataError, match=r"Expected a ray\.data\.Dataset. Received: tuple"):
        nns.distributed.observe(net, arrays)
    with pytest.raises(nns.errors.FileError, match="Cannot read"):
        nns.distributed.observe("missing.keras", data)
    with pytest.raises(nns.errors.ModelError, match="Received: int"):
        nns.distributed.observe(3, data)
    with pytest.raises(WorkerError, match=r"No worker has come in 1 seconds. Each of 2 asks for"):
        nns.distributed.observe(net, data, workers=2, gpus=1, timeout=1)
    assert time.monotonic() - begun < 60


def test_a_data_set_that_cannot_be_read_is_told():
    def broken(rows):
        raise RuntimeError("no such pixel")

    data = ray.data.range(20).map_batches(broken)
    source = reading.Source(data, ["id"], batch_size=16, workers=1, least=0)
    with pytest.raises(DataError, match=r"cannot be read: .*no such pixel"):
        while not source.ended:
            source.take(wait=1)
    source.close()


def test_the_command_sees_what_it_sees_without_ray(net, parquet, arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=arrays[0], y=arrays[1])
    assert main(f"observe {net} data.npz --ray --workers 1 -o ray.npz".split()) == 0
    assert main(f"observe {net} data.npz -o plain.npz".split()) == 0
    check_same(nns.Activity.load("ray.npz"), nns.Activity.load("plain.npz"))
