#!/usr/bin/env bash
# Ray: `read_images` of several files in one task fails where aiohttp is not installed.
#
# Versions: ray 2.60.0 with its extra `data`, fsspec 2026.9.0, pillow 13.0.0.
# Guess: `pip install 'ray[data]' pillow` is what reading images from a disk needs.
# Happens: the files of a task are read by several threads, and each looks whether the path is one
#   of fsspec's over HTTP. fsspec's module of that cannot be imported without aiohttp. The first
#   thread gets a ModuleNotFoundError, which is caught; one that comes meanwhile finds the half
#   imported module and gets an ImportError, which is not. It is a race: with one file all is well.
# Seen:
#   ImportError: cannot import name 'HTTPFileSystem' from 'fsspec.implementations.http'
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet 'ray[data]==2.60.0' fsspec==2026.9.0 pillow==13.0.0
venv/bin/python - <<'PYTHON' 2>&1 | tee seen | grep -m1 'ImportError: cannot import name'
import ray
from PIL import Image

for number in range(200):
    Image.new("L", (6, 6), number).save(f"{number}.png")
ray.init(num_cpus=2, include_dashboard=False)
try:
    for _ in range(5):
        ray.data.read_images(".", file_extensions=["png"], override_num_blocks=2).materialize()
except Exception as error:
    print(error)
PYTHON
