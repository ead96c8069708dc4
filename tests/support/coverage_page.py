"""Write `docs/coverage.md` from the contract table and from measurements of whole architectures.

python tests/support/coverage_page.py                  # the page
python tests/support/coverage_page.py --applications   # measure first
python tests/support/coverage_page.py --keras-hub      # measure the optional extra first
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from contract_table import ROWS, Row  # noqa: E402

MEASURED = HERE / "applications.json"
MEASURED_HUB = HERE / "keras_hub.json"
MEASURED_FAMILIES = HERE / "hub_families.json"
PAGE = HERE.parent.parent / "docs" / "coverage.md"

HEAD = """# What can be cut

This page is written by `tests/support/coverage_page.py` from the contract table of the tests.
Every row is a small model that is cut with random plans at 10, 50 and 90 % and compared with its
mask: equal within 1e-5 of the output's scale. *Exact* means just that. *Protected* means that these
units stay whatever the plan says, and that the report names the reason.

A type that is not listed has no rule: units that reach it are protected. A layer made of listed
layers is written out as those with [`unfold`](rules.md), without a rule; any other is taught with
[`nns.rules.register`](rules.md).

## Layers and operations

| type | case | result |
| --- | --- | --- |
"""

APPLICATIONS = """
## keras.applications

Random weights, smallest input, random plans. The difference is the largest one between cut and mask
relative to the scale of the output, over plans that keep 10, 50 and 90 % of the units.

| architecture | units | may go | parameters left | largest difference |
| --- | ---: | ---: | --- | ---: |
"""

HUB = """
## KerasHub

With `pip install 'keras-nns[hub]'`: small backbones with random weights, the same plans. In *blocks
unfolded* the backbone went through `nns.unfold` first, because its blocks are layers of their own.
Attention heads and feed-forward units can be cut; the residual stream is the output and stays.

| backbone | blocks | units | may go | parameters left | largest difference |
| --- | --- | ---: | ---: | --- | ---: |
"""

FAMILIES = """
### Families

One tiny model of each family as it is, with random weights, two blocks (T5, Bart and Whisper two
and two) and the same plans. What can leave is watched by `observe`, `ActivityMonitor` and
`observe_gradients`. Heads that share a key and value head leave with it; in T5 those of one stack
leave together. A mixture keeps at least as many experts as a token is sent to. Numbers are units of
each kind in the whole model. *Comes back as* is the class of the cut where every block keeps the
same number of hidden units, and of one where blocks keep what a random plan says: KerasHub's own,
or `Sized…`, its subclass of any sizes.

| family | what is watched | what can leave | comes back as | largest difference |
| --- | --- | --- | --- | ---: |
"""


def kind(type_: type) -> str:
    """Name a type as a user writes it."""
    module = type_.__module__
    if module.startswith("keras.src.ops"):
        return f"`keras.ops` {type_.__name__}"
    if "applications" in module:
        return f"{type_.__name__} (keras.applications)"
    return type_.__name__


def lines(rows: list[Row]) -> list[str]:
    """Write one line for each type of each row, by type."""
    found = [
        (kind(type_), row.name.replace("_", " "), row.note) for row in rows for type_ in row.covers
    ]
    return [f"| {one} | {case} | {note} |" for one, case, note in sorted(set(found))]


def architectures(measured: dict[str, Any]) -> list[str]:
    """Write one line for each architecture that was measured."""
    page = []
    for name, found in sorted(measured.items()):
        left = ", ".join(f"{100 * one['parameters']:.0f} %" for one in found["shares"].values())
        worst = max(one["difference"] for one in found["shares"].values())
        blocks = f" {found['blocks']} |" if "blocks" in found else ""
        page.append(
            f"| {name} |{blocks} {found['units']} | {found['free']} | {left} | {worst:.0e} |"
        )
    return page


def families(measured: dict[str, Any]) -> list[str]:
    """Write one line for each family of KerasHub."""
    page = []
    for name, found in measured.items():
        leaves = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in found["leaves"].items())
        watched = ", ".join(kind.replace("_", " ") for kind in found["watched"])
        kinds = ", ".join(dict.fromkeys(found["classes"]))
        page.append(f"| {name} | {watched} | {leaves} | {kinds} | {found['difference']:.0e} |")
    return page


def render() -> str:
    """Return the page."""
    page = HEAD + "\n".join(lines(ROWS)) + "\n"
    if MEASURED.is_file():
        page += APPLICATIONS + "\n".join(architectures(json.loads(MEASURED.read_text()))) + "\n"
    if MEASURED_HUB.is_file():
        page += HUB + "\n".join(architectures(json.loads(MEASURED_HUB.read_text()))) + "\n"
    if MEASURED_FAMILIES.is_file():
        page += FAMILIES + "\n".join(families(json.loads(MEASURED_FAMILIES.read_text()))) + "\n"
    return page


def measure_all() -> None:
    """Measure every architecture that has not been measured."""
    import keras
    from architectures import architectures as all_of_them
    from architectures import measure

    measured = json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}
    large = ("Large", "Base", "201", "169", "152", "B4", "B5", "B6", "B7", "V2L", "V2M", "V2S")
    for name in sorted(all_of_them(), key=lambda name: (name.endswith(large), name)):
        if name not in measured:
            measured[name] = measure(name)
            MEASURED.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
            keras.backend.clear_session()


def measure_hub() -> None:
    """Measure every backbone of KerasHub that the tests build."""
    from architectures import SHARES, random_plan
    from contract import randomise
    from hub_backbones import BACKBONES

    import keras_nns as nns
    from keras_nns.graph.tracing import trace

    measured: dict[str, Any] = {}
    for name, (build, unfolded, _) in BACKBONES.items():
        model = randomise(build())
        model = nns.unfold(model) if unfolded else model
        graph = trace(model)
        groups = graph.layout.groups
        measured[name] = {
            "blocks": "unfolded" if unfolded else "as they are",
            "units": sum(group.size for group in groups),
            "free": sum(group.size - len(group.protected) for group in groups),
            "shares": {},
        }
        for seed, share in enumerate(SHARES):
            plan = random_plan(graph, share, seed)
            measured[name]["shares"][str(share)] = {
                "difference": nns.prove(model, plan).relative,
                "parameters": nns.cut(model, plan).count_params() / model.count_params(),
            }
    MEASURED_HUB.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")


def classes(model: Any) -> list[str]:
    """Name the class of a cut whose blocks are alike, and of one whose blocks are not."""
    from architectures import random_plan

    import keras_nns as nns
    from keras_nns.graph.tracing import trace

    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {
        name: tuple(range(size // 2 if name.endswith("hidden") else size))
        for name, size in sizes.items()
    }
    alike = nns.Plan(graph.fingerprint, sizes, kept)
    return [type(nns.cut(model, plan)).__name__ for plan in (alike, random_plan(graph, 0.5, 1))]


def measure_families() -> None:
    """Measure every family of KerasHub that the tests build."""
    from architectures import SHARES, random_plan
    from contract import randomise
    from hub_families import FAMILIES as FAMILIES_OF_HUB

    import keras_nns as nns
    from keras_nns.graph.generated_inputs import sample_inputs
    from keras_nns.graph.tracing import trace
    from keras_nns.graph.watching import watch_points

    measured: dict[str, Any] = {}
    for name, family in FAMILIES_OF_HUB.items():
        model = randomise(family.build())
        graph = trace(model)
        points = watch_points(graph)
        leaves: dict[str, int] = {}
        for group in graph.layout.prunable:
            word = group.name.rpartition(":")[2].rpartition(".")[2]
            leaves[word] = leaves.get(word, 0) + group.size
        watched = [
            word
            for word in leaves
            if any(name.endswith(f":{word}") or name.endswith(f".{word}") for name in points)
        ]
        x = sample_inputs(graph, 2, seed=3)
        plans = [random_plan(graph, share, seed) for seed, share in enumerate(SHARES)]
        worst = max(nns.prove(model, plan, samples=x).relative for plan in plans)
        measured[name] = {"leaves": leaves, "watched": watched, "difference": worst}
        measured[name]["classes"] = classes(model)
        MEASURED_FAMILIES.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    if "--applications" in sys.argv[1:]:
        measure_all()
    if "--keras-hub" in sys.argv[1:]:
        measure_hub()
        measure_families()
    PAGE.write_text(render())
