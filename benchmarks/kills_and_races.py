"""Is anything lost, or left behind, when processes are killed while they write, or race for a name?

python benchmarks/kills_and_races.py --kills 300 --races 60

A process writes a file, a folder and a `.tflite` again and again, each time a newer version, and is
killed at a moment drawn by a seed. What stands there must be whole and no older than what the
process had said was written; the next process must leave nothing of the dead one. In a race
several processes write one new name: one must succeed, the others must say so.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WRITE = """
import sys, itertools
from pathlib import Path
from keras_nns.files.atomic import write_bytes
from keras_nns.files.folders import replacing_folder
from tflite_export import save
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for version in range(first, last):
    text = f"{version}\\n" * 20_000
    write_bytes(folder / "plan.json", text.encode(), overwrite=True)
    save(text, folder / "model.tflite", overwrite=True)
    with replacing_folder(folder / "report", made=["*.md"], overwrite=True) as part:
        for name in ("one.md", "two.md"):
            (part / name).write_text(text)
    print(version, flush=True)
"""

RACE = """
import sys, time
from pathlib import Path
from keras_nns.errors import FileError
from keras_nns.files.atomic import write_bytes
from keras_nns.files.folders import replacing_folder
folder, name, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(0, start - time.time()))
said = []
try:
    write_bytes(folder / "plan.json", name.encode() * 100_000)
    said.append("file")
except FileError:
    pass
try:
    with replacing_folder(folder / "report", made=["*.md"]) as part:
        (part / "page.md").write_text(name * 100_000)
    said.append("folder")
except FileError:
    pass
print(*said)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kills(count: int, rng: random.Random) -> None:
    lost = left = 0
    version = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start(WRITE, folder, 0, 1).communicate()
        for number in range(count):
            process = start(WRITE, folder, version + 1, 10**9)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            rest, _ = process.communicate()
            said = int(rest.split()[-1]) if rest.split() else version + 1
            for path in ("plan.json", "model.tflite", "report/one.md", "report/two.md"):
                lines = (folder / path).read_text().splitlines()
                whole = len(lines) == 20_000 and len(set(lines)) == 1
                if not whole or int(lines[0]) < said:
                    lost += 1
                    print(f"    {path} after kill {number}: {lines[:1]} of {said}")
            version = said + 1
            # The next run, which ends as it should.
            start(WRITE, folder, version, version + 1).communicate()
            others = {p.name for p in folder.iterdir()} - {"plan.json", "model.tflite", "report"}
            left += len(others)
    print(f"{count} kills: {lost} results lost or broken, {left} leftovers behind the next run")


def races(count: int) -> None:
    wrong = 0
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            moment = time.time() + 1.5
            runners = {who: start(RACE, folder, who, moment) for who in "abc"}
            said = {who: runner.communicate()[0].split() for who, runner in runners.items()}
            for what, path in (("file", "plan.json"), ("folder", "report/page.md")):
                winners = [who for who, won in said.items() if what in won]
                content = (folder / path).read_text()
                wrong += not (len(winners) == 1 and content == winners[0] * 100_000)
            wrong += {p.name for p in folder.iterdir()} != {"plan.json", "report"}
    print(f"{count} races of three processes for a file and a folder: {wrong} wrong ends")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--races", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kills(args.kills, random.Random(args.seed))
    races(args.races)


if __name__ == "__main__":
    main()
