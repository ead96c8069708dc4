"""Is this checkout slower than an earlier revision? Runs one script of both in turn, in one run.

python benchmarks/revisions.py 59c411a observe_speed.py --rounds 3 -- --only mlp --repeats 3

Each round starts one process of each revision, the order turned round every time, with that
revision's own script and package. Rows are matched by what the scripts call them.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import machine

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^  (?P<name>\S.*?) {2,}(?P<seconds>\d+\.\d+)\b")


def rows(root: Path, script: str, arguments: list[str]) -> dict[str, float]:
    """Seconds of every row that the revision under `root` prints, by title and name."""
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / script, *arguments],
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{script} of {root.name} failed:\n{done.stderr[-2000:]}")
    found, title = {}, ""
    for line in done.stdout.splitlines():
        if match := ROW.match(line):
            found[f"{title.partition(':')[0]}: {match['name']}"] = float(match["seconds"])
        elif line and not line.startswith(" "):
            title = line
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="what to compare this checkout with, as git names it")
    parser.add_argument("script", help="a file of benchmarks/ that both have")
    parser.add_argument("--rounds", type=int, default=3)
    parser.epilog = "What stands after -- is given to the script."
    own, given = sys.argv[1:], list[str]()
    if "--" in own:
        own, given = own[: own.index("--")], own[own.index("--") + 1 :]
    args = parser.parse_args(own)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / args.revision
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(old), args.revision], check=True)
        try:
            seconds: dict[Path, list[dict[str, float]]] = {old: [], ROOT: []}
            for number in range(args.rounds):
                for root in (old, ROOT) if number % 2 == 0 else (ROOT, old):
                    seconds[root].append(rows(root, args.script, given))
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    for name in seconds[ROOT][0].keys() & seconds[old][0].keys():
        before = [found[name] for found in seconds[old]]
        after = [found[name] for found in seconds[ROOT]]
        ratios = sorted(a / b for a, b in zip(after, before, strict=True))
        print(
            f"  {name:64} {min(before):8.3f} s before {min(after):8.3f} s now   of minima "
            f"{min(after) / min(before):6.3f}, paired median {statistics.median(ratios):6.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
