"""Do damaged and hand-made files end in a message, or in an internal error?

python benchmarks/damaged_files.py --count 500

Every kind of file that the package reads is written once and then spoilt, at random and by a seed:
bytes are flipped, cut off, doubled and moved; and what the file says of itself (its JSON, with
checksums made to fit again) gets entries that are missing, huge, negative or of another type.
Reading must succeed or raise the package's own error, with at most so much memory more, and in two
minutes: else the script ends, says where it was and keeps the file.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import gzip
import io
import json
import os
import random
import resource
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.bundles import kept_rows
from keras_nns.data.formats import read_idx
from keras_nns.data.named import load_dataset
from tflite_export.cli.sample_files import read_samples

MEMORY = 2**31
"""Bytes that reading one small file may take beside what the process has."""

LONGEST = 120
"""Seconds after which a file is taken for one that is never read to an end."""

ODD: list[Any] = [None, True, -1, 0, 1, 2**31, 10**12, 2**70, -0.5, float("nan"), "", "x", "\0", [],
                  [[]], [-1], [10**9], ["x"], {}, {"x": 1}]  # fmt: skip


def spoilt_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, double or move some of the bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if not out:
            break
        at, length = rng.randrange(len(out)), rng.choice((1, 2, 4, 16, 64))
        match rng.randrange(6):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + length] = bytes(rng.randrange(256) for _ in range(length))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[at : at + length]
            case _:
                out[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
    return bytes(out)


def spoilt_json(content: Any, rng: random.Random) -> Any:
    """Replace or drop one entry somewhere in plain data."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []

    def visit(here: Any) -> None:
        entries = here.items() if isinstance(here, dict) else enumerate(here)
        for key, value in list(entries):
            places.append((here, key))
            if isinstance(value, dict | list):
                visit(value)

    visit(content)
    # Deep lists of numbers would get nearly all of it.
    where, key = rng.choice([p for p in places if isinstance(p[0], dict)] or places)
    if rng.random() < 0.4:
        where, key = rng.choice(places)
    if rng.random() < 0.2:
        del where[key]
    else:
        where[key] = copy.deepcopy(rng.choice(ODD))
    return content


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def hand_made_npz(data: bytes, rng: random.Random) -> bytes:
    """Change the header of an activity, or the shape that an entry claims."""
    entries = entries_of(data)
    if "header.npy" in entries and rng.random() < 0.7:
        header = json.loads(np.load(io.BytesIO(entries["header.npy"])).tobytes())
        text = json.dumps(spoilt_json(header, rng)).encode()
        entries["header.npy"] = npy(np.frombuffer(text, np.uint8))
        return zipped(entries)
    name = rng.choice(sorted(entries))
    array = np.load(io.BytesIO(entries[name]))
    match rng.randrange(4):
        case 0:
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": (10**10,)}
            stream = io.BytesIO()
            np.lib.format.write_array_header_1_0(stream, header)
            entries[name] = stream.getvalue() + array.tobytes()
        case 1:
            entries[name] = npy(array.reshape(-1)[: array.size // 2])
        case 2:
            entries[name] = npy(array.astype("U8"))
        case _:
            entries[name] = npy(np.zeros((0, 3)))
    return zipped(entries)


def hand_made_keras(data: bytes, rng: random.Random) -> bytes:
    entries = entries_of(data)
    name = rng.choice([n for n in entries if n.endswith(".json")])
    entries[name] = json.dumps(spoilt_json(json.loads(entries[name]), rng)).encode()
    return zipped(entries)


def hand_made_bundle(data: bytes, rng: random.Random) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bundle.safetensors")
        path.write_bytes(data)
        with safe_open(path, framework="numpy") as stream:
            metadata = dict(stream.metadata())
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    header = spoilt_json(json.loads(metadata["header"]), rng)
    text = json.dumps(header)
    axes, checksums = tensors[kept_rows._AXES], tensors[kept_rows._CHECKSUMS]
    metadata |= {"header": text, "digest": kept_rows._digest(text, axes, checksums)}
    return save(tensors, metadata)


def hand_made_plan(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(spoilt_json(json.loads(data), rng)).encode()


def hand_made_idx(data: bytes, rng: random.Random) -> bytes:
    packed = data[:2] == b"\x1f\x8b"
    raw = bytearray(gzip.decompress(data) if packed else data)
    at = rng.randrange(4 + 4 * raw[3])
    raw[at] = rng.randrange(256)
    return gzip.compress(bytes(raw)) if packed else bytes(raw)


def use_bundle(path: Path) -> None:
    bundle = nns.Bundle.open(path)
    for name in list(bundle.names)[:2]:
        bundle.plan(name)
        bundle.weights(name, full=True)
    bundle.verify()
    nns.restore(bundle, bundle.names[0])


def use_plan(path: Path, model: Any) -> None:
    nns.cut(model, nns.Plan.load(path))


def use_activity(path: Path) -> None:
    activity = nns.Activity.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nns.select(activity, 0)
    str(activity)


def kinds(folder: Path) -> dict[str, tuple[bytes, Callable[..., Any] | None, Callable[..., Any]]]:
    """For every kind of file: one, how it is made by hand, and who reads it."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(),
         layers.Dense(6, activation="relu"), layers.Dense(3, activation="softmax")], name="net",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, 6, 6, 1), np.uint8), rng.integers(0, 3, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        activity = nns.observe(model, (x / np.float32(255), y), verbose=False)
        plans = nns.select(activity, "each")
        child = nns.cut(model, plans[0])
        activity.save(folder / "activity.npz")
        plans[0].save(folder / "plan.json")
        nns.save_model(child, folder / "child.keras")
        child.save(folder / "child.h5")
        nns.store(model, plans, folder / "bundle.safetensors")
        flat = tflite_export.convert(model)
        flat = tflite_export.add_metadata(flat, labels=["a", "b", "c"], files={"note.txt": "note"})
    np.savez_compressed(folder / "data.npz", x=x, y=y)
    idx = b"\0\0\x08\x03" + np.array(x.shape[:3], ">u4").tobytes() + x.tobytes()
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    return {
        "plan.json": (found["plan.json"], hand_made_plan, lambda p: use_plan(p, model)),
        "activity.npz": (found["activity.npz"], hand_made_npz, use_activity),
        "bundle.safetensors": (found["bundle.safetensors"], hand_made_bundle, use_bundle),
        "child.keras": (found["child.keras"], hand_made_keras, nns.load_model),
        "child.h5": (found["child.h5"], None, nns.load_model),
        "data.npz": (found["data.npz"], hand_made_npz, load_dataset),
        "samples.npz": (found["data.npz"], hand_made_npz, lambda p: read_samples(str(p))),
        "x-idx3-ubyte": (idx, hand_made_idx, read_idx),
        "x-idx3-ubyte.gz": (gzip.compress(idx), hand_made_idx, read_idx),
        "model.tflite": (flat, None, lambda p: tflite_export.read_metadata(p.read_bytes())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="files of each kind and way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the kind to spoil")
    parser.add_argument("--show", action="store_true", help="show where internal errors come from")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = kinds(folder)
        status = Path("/proc/self/statm")
        if status.exists():
            used = int(status.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        for kind, (data, by_hand, read) in made.items():
            if args.only in (None, kind):
                run(folder / f"spoilt-{kind}", data, by_hand, read, args)


def run(path: Path, data: bytes, by_hand: Any, read: Callable[[Path], Any], args: Any) -> None:
    for way in ("bytes", "by hand")[: 1 if by_hand is None else 2]:
        rng = random.Random(f"{args.seed} {path.name} {way}")
        said: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        slowest = 0.0
        for _ in range(args.count):
            path.write_bytes(spoilt_bytes(data, rng) if way == "bytes" else by_hand(data, rng))
            start = time.perf_counter()
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    read(path)
                    said["read"] += 1
                except (nns.NNSError, tflite_export.ExportError):
                    said["refused"] += 1
                except Exception as error:
                    last = traceback.extract_tb(error.__traceback__)
                    ours = [f for f in last if "keras_nns/" in f.filename or "tflite_export/" in
                            f.filename]  # fmt: skip
                    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
                    wrong[f"{type(error).__name__} in {where}: {str(error)[:90]}"] += 1
            faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, time.perf_counter() - start)
        print(
            f"{path.name.removeprefix('spoilt-'):20} {way:8} {args.count} files: {said['read']} "
            f"read, {said['refused']} refused, {sum(wrong.values())} internal errors; slowest "
            f"{slowest:.1f} s", flush=True,
        )  # fmt: skip
        if args.show:
            for text, count in wrong.most_common():
                print(f"    {count} x {text}")


if __name__ == "__main__":
    main()
