"""Run the commands where Keras runs on another backend: `python commands_on_backend.py FOLDER`."""

from __future__ import annotations

import os
import sys

import numpy as np

COMMANDS = """\
inspect m.keras
observe m.keras d.npz -o whole.npz
observe m.keras d.npz --shard 1/2 -o p1.npz
observe m.keras d.npz --shard 2/2 -o p2.npz
add p1.npz p2.npz -o a.npz
select a.npz --label 1 --score contrast -o 1.json
select a.npz --label 2 -o 2.json
merge 1.json 2.json -o both.json
cut m.keras 1.json -o one.keras --head binary
cut m.keras 2.json -o two.keras --head binary
mask m.keras 1.json -o masked.keras
evaluate one.keras d.npz --against m.keras
simplify one.keras -o lean.keras
extract m.keras d.npz --label 1 --budget parameters=120 -o least.keras
sweep m.keras d.npz --label 1 --sizes 2 --epochs 1 -o sweep.json
compose one.keras two.keras --calibrate-on d.npz -o composed.keras
graph m.keras 1.json -o g.json
report m.keras a.npz 1.json 2.json --data d.npz -o report
remove-label m.keras --label 3 -o three_labels.keras
transfer m.keras d.npz --epochs 1 -o taught.keras
""".splitlines()


def main(folder: str) -> None:
    """Run all of them in a folder; print what each returned, and which backend it ran on."""
    os.chdir(folder)
    from keras_nns.cli import main as run

    for command in COMMANDS:
        code = run([*command.split(), *_quiet(command)])
        sys.stdout.write(f"{command} -> {code}\n")
    import keras

    sys.stdout.write(f"on {keras.config.backend()}\n")


def _quiet(command: str) -> list[str]:
    return ["--quiet"] if command.split(maxsplit=1)[0] in ("observe", "extract") else []


def data() -> tuple[np.ndarray, np.ndarray]:
    """Four labels, told apart by the largest of four of six numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 4
    return (rng.normal(0, 0.3, (240, 6)) + np.eye(4, 6)[y]).astype("float32"), y


if __name__ == "__main__":
    main(sys.argv[1])
