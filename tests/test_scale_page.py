"""The scripts of docs/scale.md: the shell's syntax, Kubernetes' structure, our own options."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from keras_nns.cli import _parser

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text()


def fences(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def scripts():
    found = fences("bash")
    yaml = pytest.importorskip("yaml")
    for text in fences("yaml"):
        for container in yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]:
            assert container["command"] == ["bash", "-ceu"]
            found += container["args"]
    return found


def test_every_script_is_one_to_bash():
    assert len(scripts()) >= 6
    for script in scripts():
        done = subprocess.run(
            ["bash", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), script


def test_every_command_takes_its_options():
    parsed = []
    for script in scripts():
        text = re.sub(r"\$\w+", "1", script.replace("\\\n", " "))
        for command in re.findall(r"keras-nns (.+?)(?:\n|\"\n|$)", text):
            parsed.append(_parser().parse_args(shlex.split(command, comments=True)))
    assert len(parsed) == 9
    assert {one.run.__module__ for one in parsed} == {
        "keras_nns.cli.observe",
        "keras_nns.cli.add",
    }


def test_jobs_are_what_kubernetes_calls_so():
    yaml = pytest.importorskip("yaml")
    jobs = [yaml.safe_load(text) for text in fences("yaml")]
    for job in jobs:
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        spec = job["spec"]["template"]["spec"]
        assert spec["restartPolicy"] in ("Never", "OnFailure")
        names = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= names
    (indexed,) = [job["spec"] for job in jobs if job["spec"].get("completionMode") == "Indexed"]
    shards = indexed["template"]["spec"]["containers"][0]["args"][0]
    assert f'"$shard/{indexed["completions"]}"' in shards
