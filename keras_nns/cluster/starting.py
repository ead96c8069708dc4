"""Ray, where it is installed: started on this machine unless it runs, and what it has to give."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from keras_nns.errors import BackendError, DataError

_DATA_HELP = (
    "Read one by Ray, such as ray.data.read_parquet(path), ray.data.read_images(path, …) or "
    'ray.data.from_items([{"x": …, "y": …}, …]); data of other kinds are seen by nns.observe.'
)


def ray() -> Any:
    """Return Ray's module.

    Raises:
        BackendError: It is not installed.
    """
    try:
        import_module("ray.data")
        return import_module("ray")
    except ImportError as error:
        raise BackendError(
            "Work on a cluster is done by Ray, which is not installed, or not with what reads "
            "data: pip install 'keras-nns[ray]'. Without it several processes share the work by "
            "nns.observe(model, data, shard=(1, 8)) and nns.add(parts)."
        ) from error


def start(*, quiet: bool = False) -> Any:
    """Start Ray on this machine where it does not run and no cluster is named; return its module.

    Args:
        quiet: Have it say nothing but errors.

    Raises:
        BackendError: Ray is not installed.
    """
    module = ray()
    if not module.is_initialized():
        # Of a cluster that RAY_ADDRESS names, or that runs here, this joins it.
        level = "error" if quiet else "warning"
        module.init(include_dashboard=False, log_to_driver=False, logging_level=level)
    return module


def check_dataset(data: Any) -> None:
    """Raise where data are no data set of Ray's.

    Raises:
        DataError: They are not.
    """
    if not isinstance(data, ray().data.Dataset):
        raise DataError(
            f"Expected a ray.data.Dataset. Received: {type(data).__name__}. {_DATA_HELP}"
        )


def worker_count(workers: int | None, threads: int, gpus: float) -> int:
    """Return how many workers there are to be: one for each GPU, or for so many processors.

    Raises:
        DataError: The numbers make no sense.
    """
    for name, value, least in (("workers", workers, 1), ("threads", threads, 1)):
        whole = value is None or (hasattr(value, "__index__") and not isinstance(value, bool))
        if not whole or (value is not None and value < least):
            raise DataError(f"`{name}` is a whole number from 1. Received: {name}={value!r}.")
    if not gpus >= 0:
        raise DataError(f"`gpus` is how many each worker has, 0 or more. Received: gpus={gpus!r}.")
    if workers is not None:
        return workers
    there = ray().cluster_resources()
    found: float = there.get("GPU", 0) / gpus if gpus else there.get("CPU", 1) / threads
    return max(1, math.floor(found))


def reserved(workers: int, threads: int) -> float:
    """Return how many processors a worker has in Ray's books: half of what it uses, or less.

    What is left reads the data: were all reserved, nothing would be read, for ever.
    """
    spare: float = max(ray().cluster_resources().get("CPU", 0) - 1, 0)
    return math.floor(100 * min(threads / 2, spare / workers)) / 100
