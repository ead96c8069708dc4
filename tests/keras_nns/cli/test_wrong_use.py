"""Wrong use gets one clear line that names what to do, and loses nothing."""

import json
import resource
import shutil
import warnings

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns.cli import main

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
layers = keras.layers


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def dense(*units, seed=0, activation="relu"):
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(n, activation=activation, name=f"d{i}") for i, n in enumerate(units)]
    answer = layers.Dense(3, activation="softmax", name="answer")
    return keras.Sequential([keras.Input((4,)), *hidden, answer], name="net")


def write_models(folder):
    parent = dense(6)
    broken = dense(6)
    broken.layers[0].kernel.assign(np.full((4, 6), np.nan))
    subclassed = Subclassed()
    subclassed(np.ones((1, 4), "float32"))
    unbuilt = keras.Sequential([layers.Dense(6), layers.Dense(3)])
    coded = keras.Sequential(
        [keras.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(6), layers.Dense(3)]
    )
    for name, model in {
        "parent": parent,
        "other": dense(7),
        "retrained": dense(6, seed=1),
        "broken": broken,
        "subclassed": subclassed,
        "unbuilt": unbuilt,
        "shallow": dense(),
        "lambda": coded,
    }.items():
        with warnings.catch_warnings(action="ignore"):  # Keras warns of the unbuilt one.
            model.save(folder / f"{name}.keras")
    return parent


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with models, data and files made from them, whole and damaged."""
    folder = tmp_path_factory.mktemp("models")
    parent = write_models(folder)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 4)).astype("float32"), np.arange(30) % 3
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "label7.npz", x=x, y=np.where(y == 2, 7, y))
    np.savez(folder / "unseen.npz", x=x, y=y % 2)
    np.savez(folder / "wide.npz", x=np.ones((30, 9), "float32"), y=y)
    np.savez(folder / "nan.npz", x=np.where(x > 2, np.nan, x), y=y)
    np.savez(folder / "empty.npz", x=x[:0], y=y[:0])
    activity = nns.observe(parent, x, y)
    activity.save(folder / "activity.npz")
    nns.observe(parent, x, y % 2, label_count=3).save(folder / "unseen_activity.npz")
    plan = nns.select(activity, 1, score="mean_activation")
    plan.save(folder / "plan.json")
    (plan - plan).save(folder / "nothing.json")
    nns.select(
        nns.observe(nns.load_model(folder / "other.keras"), x, y), 1, score="mean_activation"
    ).save(folder / "plan_of_other.json")
    for name in ("activity.npz", "plan.json", "parent.keras"):
        content = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(content[: len(content) // 2])
        damaged = bytearray(content)
        damaged[len(content) // 2 : len(content) // 2 + 40] = b"?" * 40
        (folder / f"damaged_{name}").write_bytes(bytes(damaged))
    (folder / "list.json").write_text("[1, 2]")
    (folder / "foreign.json").write_text(json.dumps({"format": "recipe", "eggs": 2}))
    (folder / "text.keras").write_text("once upon a time")
    return folder


WRONG = {
    # data
    "labels outside the outputs": ("observe parent.keras label7.npz -o out.npz", "7"),
    "wrong shape": ("observe parent.keras wide.npz -o out.npz", "(30, 9)"),
    "NaN in the data": ("evaluate parent.keras nan.npz", "NaN"),
    "NaN in the data, observed": ("observe parent.keras nan.npz -o out.npz", "NaN"),
    "NaN activations": ("observe broken.keras data.npz -o out.npz", "NaN"),
    "empty data": ("observe parent.keras empty.npz -o out.npz", "empty"),
    "no such data": ("observe parent.keras none.npz -o out.npz", "no data set or path"),
    "not data": ("observe parent.keras activity.npz -o out.npz", "x"),
    "unknown layer": ("observe parent.keras data.npz -o out.npz --layers d9", "d9"),
    "unknown statistic": ("observe parent.keras data.npz -o out.npz --statistics median", "median"),
    "windows of no texts": (
        "extract parent.keras data.npz --label 0 --budget 10kB --window 64 -o out.keras",
        "window are for language models",
    ),
    # models
    "no such model": ("observe none.keras data.npz -o out.npz", "no such file"),
    "never built": ("observe unbuilt.keras data.npz -o out.npz", "built"),
    "subclassed, inspected": ("inspect subclassed.keras", "call"),
    "not a model, inspected": ("inspect text.keras", "text.keras"),
    "subclassed": ("observe subclassed.keras data.npz -o out.npz", "call"),
    "no hidden units": ("observe shallow.keras data.npz -o out.npz", "hidden"),
    "Lambda layer": ("observe lambda.keras data.npz -o out.npz", "--unsafe"),
    "damaged model": ("observe damaged_parent.keras data.npz -o out.npz", "damaged_parent.keras"),
    "truncated model": ("observe cut_parent.keras data.npz -o out.npz", "cut_parent.keras"),
    "not a model": ("observe text.keras data.npz -o out.npz", "text.keras"),
    "a plan for a model": ("evaluate plan.json data.npz", ".keras"),
    # selections
    "label without samples": ("select unseen_activity.npz --label 2 -o out.json", "No sample"),
    "each, one without samples": ("select unseen_activity.npz --each -o out", "No sample"),
    "unknown label": ("select activity.npz --label cat -o out.json", "No label 'cat'"),
    "label number too high": ("select activity.npz --label 3 -o out.json", "No label 3"),
    "zeta too high": ("select activity.npz --all --zeta 1.5 -o out.json", "zeta=1.5"),
    "zeta too low": ("select activity.npz --all --zeta -0.1 -o out.json", "[0, 1]"),
    "no such rule": ("select activity.npz --all --keep below(2) -o out.json", "above(0.4)"),
    "rule without a number": ("select activity.npz --all --keep top(x) -o out.json", "'x'"),
    "half a unit": ("select activity.npz --all --keep top(2.5) -o out.json", "2.5"),
    "magnitude alone": ("select activity.npz --all --score magnitude -o out.json", "--model"),
    "lamp alone": ("select activity.npz --all --score lamp -o out.json", "--model"),
    "spread not watched": ("select activity.npz --all --score d_prime -o out.json", "variance"),
    "normalised layer by layer": (
        "select activity.npz --all --top 2 --normalise l2 -o out.json",
        "scope='global' with it",
    ),
    "an absolute rule with a scope": (
        "select activity.npz --all --keep at_least(0.5) --scope global -o out.json",
        "takes no scope",
    ),
    "half of a multiple": ("select activity.npz --all --multiple-of 0 -o out.json", "multiple_of"),
    "magnitude of another": (
        "select activity.npz --all --score magnitude --model other.keras -o out.json",
        "another model",
    ),
    "damaged activity": ("select damaged_activity.npz --all -o out.json", "damaged_activity.npz"),
    "truncated activity": ("select cut_activity.npz --all -o out.json", "cut_activity.npz"),
    "foreign activity": ("select data.npz --all -o out.json", "data.npz"),
    # judgement
    "beside nothing": ("evaluate parent.keras data.npz --beside other.keras", "--against"),
    "too many stages": (
        "transfer parent.keras data.npz --rates 0.1,0.1,0.1,0.1,0.1 -o out.keras",
        "that can learn",
    ),
    "no such layer": ("transfer parent.keras data.npz --up-to top -o out.keras", "'top'"),
    "label there already": ("add-label parent.keras data.npz --name 2 -o out.keras", "already"),
    "no sample of it": ("add-label parent.keras data.npz --name 3 -o out.keras", "0 of '3'"),
    "no such label": ("remove-label parent.keras --label 7 -o out.keras", "no label 7"),
    "composing one": ("compose parent.keras -o out.keras", "for which labels it was made"),
    # labels that move
    "a label twice": ("graft parent.keras parent.keras --label 1 -o out.keras", "called="),
    "a label it has not": ("graft parent.keras parent.keras --label 77 -o out.keras", "'77'"),
    "host of one label": ("patch parent.keras parent.keras data.npz --label 77 -o o.keras", "'77'"),
    "too wide": (
        "transplant parent.keras parent.keras data.npz --label 0 --label 1 -o out.keras",
        "ends in",
    ),
    # plans
    "plan of another model": ("cut parent.keras plan_of_other.json -o out.keras", "another model"),
    "retrained parent": ("cut retrained.keras plan.json -o out.keras", "--retrained in a shell"),
    "emptied layer": ("cut parent.keras nothing.json -o out.keras", "empty"),
    "damaged plan": ("cut parent.keras damaged_plan.json -o out.keras", "damaged_plan.json"),
    "truncated plan": ("cut parent.keras cut_plan.json -o out.keras", "cut_plan.json"),
    "foreign plan": ("cut parent.keras foreign.json -o out.keras", "foreign.json"),
    "no plan at all": ("mask parent.keras list.json -o out.keras", "list.json"),
    "merging two parents": ("merge plan.json plan_of_other.json -o out.json", "one parent"),
    # files
    "wrong suffix": ("cut parent.keras plan.json -o out.h5", ".keras"),
    "existing output": ("cut parent.keras plan.json -o parent.keras", "--overwrite"),
    "existing activity": ("observe parent.keras data.npz -o activity.npz", "--overwrite"),
    "existing folder": ("select activity.npz --each -o .", "working in"),
    "no folder": ("select activity.npz --all -o plan.json/out.json", "plan.json"),
    "a folder": ("merge plan.json -o folder.json", "folder"),
    "unsure labels": ("export parent.keras -o out.tflite --labels plan.json", "label"),
    "no samples": ("export parent.keras -o out.tflite --quantize int8", "--samples"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("line", "fragment"), WRONG.values(), ids=WRONG)
def test_wrong_use(line, fragment, models, tmp_path, monkeypatch, capsys):
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    (tmp_path / "folder.json").mkdir()
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(line.split()) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert fragment in said.err
    assert "should not happen" not in said.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_lambda_is_loaded_when_the_user_says_so(models, tmp_path, capsys):
    line = f"observe {models}/lambda.keras {models}/data.npz --unsafe -o {tmp_path}/out.npz"
    assert main(line.split()) == 0
    assert "6 units" in capsys.readouterr().out


def test_retrained_parents_are_cut_when_the_user_says_so(models, tmp_path):
    line = f"cut {models}/retrained.keras {models}/plan.json --retrained -o {tmp_path}/out.keras"
    assert main([*line.split(), "--quiet"]) == 0
    assert (tmp_path / "out.keras").exists()


@pytest.mark.parametrize(
    "line",
    [
        "observe {0}/parent.keras {0}/data.npz -o {1}/out.npz",
        "select {0}/activity.npz --all -o {1}/out.json",
        "select {0}/activity.npz --each -o {1}/out",
        "cut {0}/parent.keras {0}/plan.json -o {1}/out.keras",
    ],
    ids=lambda line: line.split()[0],
)
@pytest.mark.parametrize("exists", [False, True], ids=["new", "old"])
def test_a_full_disk_leaves_what_was_there(line, exists, models, tmp_path, capsys):
    argv = line.format(models, tmp_path).split()
    output = tmp_path / argv[-1].rsplit("/", 1)[1]
    if exists and output.suffix:
        output.write_bytes(b"earlier")
        argv.append("--overwrite")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: the system answers as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (128, hard))
    try:
        status = main(argv)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1
    assert "File too large" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_missing_model_is_told_before_anything_is_started(monkeypatch, capsys):
    monkeypatch.setattr("keras_nns.cli.reading.start_backend", None)
    assert main(["inspect", "nowhere.keras"]) == 1
    assert "Cannot read 'nowhere.keras': no such file." in capsys.readouterr().err
