"""Each command does what the function of its name does, with files in between."""

import json

import keras
import numpy as np
import pytest

import keras_nns as nns
import tflite_export
from keras_nns.cli import main
from keras_nns.plans.keep_rules import named_rule

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
LABELS = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a parent model, its data and an activity."""
    folder = tmp_path_factory.mktemp("shop")
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    layers = keras.layers
    parent = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, activation="relu", name="one"),
            layers.Dense(8, activation="relu", name="two"),
            layers.Dense(3, activation="softmax", name="answer"),
        ],
        name="parent",
    )
    y = np.arange(240) % 3
    x = (random.normal(size=(240, 6)) + 2 * np.eye(6)[y]).astype("float32")
    # Trained well enough to show in which order it answers the names.
    parent.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    parent.fit(x[:160], y[:160], epochs=5, verbose=0)
    nns.save_model(parent, folder / "parent.keras")
    names = np.array(LABELS)
    np.savez(
        folder / "data.npz",
        x_train=x[:160],
        y_train=names[y[:160]],
        x_test=x[160:],
        y_test=names[y[160:]],
    )
    np.savez(folder / "test.npz", x=x[160:], y=names[y[160:]])
    activity = nns.observe(parent, x[:160], names[y[:160]])
    activity.save(folder / "activity.npz")
    return folder


@pytest.fixture
def run(shop, tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; `@name` stands for a file of the shop."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        argv = [f"{shop}/{word[1:]}" if word.startswith("@") else word for word in line.split()]
        status = main(argv)
        said = capsys.readouterr()
        assert (status, said.err) == (0, "")
        return said.out

    return run


@pytest.fixture(scope="module")
def parent(shop):
    return nns.load_model(shop / "parent.keras")


@pytest.fixture(scope="module")
def activity(shop):
    return nns.Activity.load(shop / "activity.npz")


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(9).normal(size=(40, 6)).astype("float32")


def answers(model, x):
    return np.asarray(model(x, training=False))


@pytest.mark.slow
def test_inspect(run, parent):
    expected = nns.inspect(parent)
    assert json.loads(run("inspect @parent.keras --json")) == expected.to_json()
    assert run("inspect @parent.keras") == f"{expected}\n"
    # A unit of the first layer: 6 weights and a bias in, 8 weights out.
    assert [group.parameters for group in expected.groups] == [15, 16, 9]


@pytest.mark.slow
def test_observe(run, activity, tmp_path):
    out = run("observe @parent.keras @data.npz -o seen.npz")
    # The training part, when there are two.
    assert nns.Activity.load(tmp_path / "seen.npz") == activity
    assert "20 units in 2 layers for 3 labels over 160 samples" in out


@pytest.mark.slow
def test_observe_has_the_options_of_the_function(run, parent, shop, tmp_path):
    run(
        "observe @parent.keras @data.npz --part test --layers two --statistics mean,maximum "
        "--threshold 0.5 --batch-size 7 -o seen.npz"
    )
    data = np.load(shop / "data.npz")
    expected = nns.observe(
        parent,
        data["x_test"],
        data["y_test"],
        layers=["two"],
        statistics=("mean", "maximum"),
        threshold=0.5,
        batch_size=7,
    )
    assert nns.Activity.load(tmp_path / "seen.npz") == expected


@pytest.mark.slow
def test_a_path_without_parts_is_read_whole_unless_a_part_is_asked_for(run, tmp_path):
    run("observe @parent.keras @test.npz -o all.npz")
    run("observe @parent.keras @test.npz --part train -o train.npz")
    run("observe @parent.keras @test.npz --part test -o test.npz")
    both = [nns.Activity.load(tmp_path / f"{part}.npz") for part in ("train", "test")]
    whole = nns.Activity.load(tmp_path / "all.npz")
    assert [int(part.samples.sum()) for part in both] == [64, 16]
    assert int(whole.samples.sum()) == 80
    np.testing.assert_array_equal((both[0] + both[1]).samples, whole.samples)


@pytest.mark.parametrize(
    ("options", "labels", "how"),
    [
        ("--label dog", "dog", {}),
        ("--label 1 --label cat", ["dog", "cat"], {}),
        ("--all --zeta 0.7", "all", {"keep": nns.above(0.7)}),
        ("--label eel --keep top(3)", "eel", {"keep": nns.top(3)}),
        (
            "--label eel --top 3 --score contrast",
            "eel",
            {"keep": nns.top(3), "score": nns.scores.contrast},
        ),
        ("--label cat --fraction 0.2", "cat", {"keep": nns.fraction(0.2)}),
        (
            "--all --fraction 0.2 --scope global --min-units 2",
            "all",
            {"keep": nns.fraction(0.2, scope="global"), "min_units": 2},
        ),
        ("--label cat --score firing_frequency", "cat", {"score": nns.scores.firing_frequency}),
        (
            "--label cat --score firing_frequency --keep at_least(0.9)",
            "cat",
            {"score": nns.scores.firing_frequency, "keep": nns.at_least(0.9)},
        ),
        (
            "--all --fraction 0.2 --scope global --normalise l2 --multiple-of 2",
            "all",
            {"keep": nns.fraction(0.2, scope="global", normalise="l2"), "multiple_of": 2},
        ),
    ],
)
def test_select(options, labels, how, run, activity, tmp_path):
    run(f"select @activity.npz {options} -o plan.json")
    plan = nns.Plan.load(tmp_path / "plan.json")
    expected = nns.select(activity, labels, **how)
    assert plan == expected and plan.choices == expected.choices
    # The plan really is a choice: it neither keeps all nor nothing.
    assert not plan.keeps_all and not plan.empty


@pytest.mark.parametrize("name", ["magnitude", "lamp", "geometric_median"])
def test_select_by_weights(name, run, activity, parent, tmp_path):
    run(f"select @activity.npz --all --score {name} --model @parent.keras --top 4 -o plan.json")
    expected = nns.select(activity, "all", score=getattr(nns.scores, name)(parent), keep=nns.top(4))
    assert nns.Plan.load(tmp_path / "plan.json") == expected


@pytest.mark.parametrize(
    "rule",
    [
        nns.above(0.4),
        nns.at_least(-0.25),
        nns.top(8, scope="global"),
        nns.fraction(0.25, scope="global", normalise="mean"),
    ],
    ids=lambda rule: rule.name,
)
def test_rules_are_read_as_plans_write_them(rule):
    read = named_rule(rule.name)
    assert (read.name, read.scope, read.normalise) == (rule.name, rule.scope, rule.normalise)


def test_select_each_writes_a_folder(run, activity, tmp_path):
    run("select @activity.npz --each -o plans")
    found = {path.name: nns.Plan.load(path) for path in (tmp_path / "plans").iterdir()}
    names = [f"{name}.json" for name in LABELS]
    assert found == dict(zip(names, nns.select(activity, "each"), strict=True))
    run("select @activity.npz --each --top 2 -o plans --overwrite")
    assert nns.Plan.load(tmp_path / "plans" / "cat.json") == nns.select(
        activity, "cat", keep=nns.top(2)
    )


@pytest.mark.parametrize(
    "rule",
    [nns.above(0.25), nns.top(7), nns.fraction(0.5), nns.top(7, scope="global")],
    ids=lambda rule: rule.name,
)
def test_a_rule_reads_back_from_its_name(rule):
    read = named_rule(rule.name)
    scores = np.random.default_rng(0).random(50)
    assert (read.name, read.scope) == (rule.name, rule.scope)
    np.testing.assert_array_equal(read(scores), rule(scores))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["parent", "labels", "other", "binary"])
def test_cut_and_mask(head, run, activity, parent, x, tmp_path):
    plan = nns.select(activity, ["cat", "eel"], keep=nns.top(5))
    plan.save(tmp_path / "plan.json")
    out = run(f"cut @parent.keras plan.json --head {head} -o small.keras")
    run(f"mask @parent.keras plan.json --head {head} -o masked.keras")
    assert "equal to the masked parent" in out
    small = nns.load_model(tmp_path / "small.keras")
    masked = nns.load_model(tmp_path / "masked.keras")
    np.testing.assert_array_equal(answers(small, x), answers(nns.cut(parent, plan, head=head), x))
    np.testing.assert_allclose(answers(small, x), answers(masked, x), rtol=0, atol=1e-5)
    assert nns.lineage(small).plan == plan and nns.lineage(small).head == head
    assert small.count_params() < parent.count_params()


@pytest.mark.slow
def test_cut_can_leave_the_proof_out(run, activity, tmp_path):
    nns.select(activity, "cat").save(tmp_path / "plan.json")
    assert "not proven" in run("cut @parent.keras plan.json --no-prove -o small.keras")


def test_merge(run, activity, tmp_path):
    run("select @activity.npz --each --top 3 -o plans")
    run("merge plans/cat.json plans/eel.json -o both.json")
    cat, _, eel = nns.select(activity, "each", keep=nns.top(3))
    assert nns.Plan.load(tmp_path / "both.json") == cat | eel


@pytest.mark.slow
def test_evaluate(run, parent, shop):
    data = np.load(shop / "data.npz")
    expected = nns.evaluate(parent, data["x_test"], data["y_test"])
    shown = json.loads(run("evaluate @parent.keras @data.npz --json"))
    assert shown == json.loads(json.dumps(expected.to_json()))
    assert run("evaluate @parent.keras @data.npz") == f"{expected}\n"
    assert "over 80 samples" in str(expected)


@pytest.mark.slow
def test_evaluate_against_the_parent(run, activity, parent, shop, tmp_path):
    small = nns.cut(parent, nns.select(activity, "dog"), head="binary")
    nns.save_model(small, tmp_path / "dog.keras")
    data = np.load(shop / "test.npz")
    expected = nns.compare(parent, small, data["x"], data["y"])
    line = "evaluate dog.keras @test.npz --against @parent.keras"
    shown = json.loads(run(f"{line} --json"))
    assert shown == json.loads(json.dumps(expected.to_json()))
    table = run(line)
    assert "dog" in table and "multiply-adds" in table


@pytest.mark.slow
def test_compose_and_judge_beside_others(run, activity, parent, shop, tmp_path):
    plans = nns.select(activity, "each", keep=nns.top(6))
    subnets = [nns.cut(parent, plan, head="binary") for plan in plans]
    for subnet, name in zip(subnets, LABELS, strict=True):
        nns.save_model(subnet, tmp_path / f"{name}.keras")
    data = np.load(shop / "data.npz")
    train = data["x_train"], data["y_train"]
    test = data["x_test"], data["y_test"]
    run("compose cat.keras dog.keras eel.keras -o plain.keras -q")
    run("compose cat.keras dog.keras eel.keras -o each.keras -q --calibrate-on @data.npz "
        "--calibrate each")  # fmt: skip
    said = run("compose cat.keras dog.keras eel.keras -o whole.keras --calibrate-on @data.npz")
    assert "3 subnetworks decide between cat, dog, eel" in said and "calibrated on" in said
    for file, expected in {
        "plain": nns.compose(subnets),
        "each": nns.compose(subnets, *train, calibrate="each"),
        "whole": nns.compose(subnets, *train),
    }.items():
        written = nns.load_model(tmp_path / f"{file}.keras")
        assert answers(written, test[0]) == pytest.approx(answers(expected, test[0]), abs=1e-5)
    beside = {"plain": nns.compose(subnets)}
    expected = nns.compare(parent, written, *test, beside=beside)
    line = "evaluate whole.keras @data.npz --against @parent.keras --beside plain.keras"
    assert json.loads(run(f"{line} --json")) == json.loads(json.dumps(expected.to_json()))
    assert "plain" in run(line)


@pytest.mark.slow
def test_labels_that_move(run, activity, parent, shop, tmp_path):
    data = np.load(shop / "data.npz")
    train, test = (data["x_train"], data["y_train"]), data["x_test"]
    known = train[1] != "eel"
    keras.utils.set_random_seed(1)
    host = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, activation="softmax")])
    host.compile("adam", "sparse_categorical_crossentropy")
    host.fit(train[0][known], train[1][known] == "dog", epochs=5, verbose=0)
    eel = nns.cut(parent, nns.select(activity, "eel", keep=nns.top(6)), head="binary")
    nns.save_model(host, tmp_path / "host.keras")
    nns.save_model(eel, tmp_path / "eel.keras")
    line = "graft host.keras eel.keras --label eel --host-names cat,dog"
    assert "answers cat, dog, eel" in run(f"{line} --calibrate-on @data.npz -o grown.keras")
    expected = nns.graft(host, eel, "eel", *train, host_names=["cat", "dog"])
    assert answers(nns.load_model(tmp_path / "grown.keras"), test) == pytest.approx(
        answers(expected, test), abs=1e-5
    )
    assert "believed as it is" in run(f"{line} --called snake -o plain.keras")
    # A host that never says eel is better patched.
    never = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    (kernel, bias), weak = host.layers[0].get_weights(), never.layers[0]
    weak.set_weights([np.pad(kernel, ((0, 0), (0, 1))), np.array([*bias, -9.0])])
    nns.save_model(never, tmp_path / "never.keras")
    said = run(
        "patch never.keras eel.keras @data.npz --label eel --host-names cat,dog,eel --json "
        "--most-lost 0.5 -o patched.keras"
    )
    expected = nns.patch(
        never, eel, "eel", *train, host_names=LABELS, label_names=LABELS, most_lost=0.5
    )
    assert json.loads(said) == json.loads(json.dumps(expected.to_json()))
    assert answers(nns.load_model(tmp_path / "patched.keras"), test) == pytest.approx(
        answers(expected.model, test), abs=1e-5
    )
    tiny = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    nns.save_model(tiny, tmp_path / "tiny.keras")
    said = run(
        "transplant @parent.keras tiny.keras @data.npz --label cat --label eel --epochs 2 "
        "--json -o small.keras"
    )
    assert [one["parents"] for one in json.loads(said)["origins"]] == ["one", None]
    assert nns.lineage(nns.load_model(tmp_path / "small.keras")).label_names == ("cat", "eel")


@pytest.mark.slow
def test_what_a_patch_does_not_better_is_not_written(shop, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # What the data is made by: nothing can be better.
    best = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    best.layers[0].set_weights([2 * np.eye(6)[:, :3], np.zeros(3)])
    nns.save_model(best, tmp_path / "best.keras")
    line = f"patch best.keras {shop}/parent.keras {shop}/data.npz --sure 0.999 -o out.keras"
    assert main(f"{line} --label 2 --replaces eel --host-names cat,dog,eel".split()) == 1
    said = capsys.readouterr()
    assert "eel (patched)" in said.out and said.err.startswith("error: Not written: the balanced")
    assert not (tmp_path / "out.keras").exists()


@pytest.mark.slow
def test_export_knows_the_labels_of_a_cut_model(run, activity, parent, x, tmp_path):
    small = nns.cut(parent, nns.select(activity, ["cat", "eel"]), head="labels")
    nns.save_model(small, tmp_path / "small.keras")
    out = run("export small.keras -o small.tflite")
    flat = (tmp_path / "small.tflite").read_bytes()
    assert tflite_export.read_metadata(flat).labels == ("cat", "eel")
    assert tflite_export.verify(flat, small, x).relative < 1e-5
    assert f"{len(flat):,} bytes" in out and "verified on 64 generated inputs" in out


@pytest.mark.slow
def test_export_quantized_on_samples_with_given_labels(shop, tmp_path, monkeypatch, capsys):
    (tmp_path / "names.txt").write_text("Katze\nHund\nAal\n")
    monkeypatch.chdir(tmp_path)
    line = (
        f"export {shop}/parent.keras --labels names.txt --quantize int8 "
        f"--samples {shop}/data.npz --sample-count 150 -o small.tflite"
    )
    assert main(line.split()) == 0
    assert "by chance" not in capsys.readouterr().err
    metadata = tflite_export.read_metadata(tmp_path / "small.tflite")
    assert metadata.labels == ("Katze", "Hund", "Aal") and metadata.quantize == "int8"


@pytest.mark.slow
def test_export_of_a_subnetwork_takes_the_parents_data(run, activity, parent, tmp_path):
    small = nns.cut(parent, nns.select(activity, "dog"), head="binary")
    nns.save_model(small, tmp_path / "dog.keras")
    run("export dog.keras --samples @data.npz -o dog.tflite")
    assert tflite_export.read_metadata(tmp_path / "dog.tflite").labels == ("dog",)


@pytest.mark.slow
def test_report(run, tmp_path):
    run("select @activity.npz --each -o plans")
    out = run(
        "report @parent.keras @activity.npz plans/cat.json plans/dog.json --data @data.npz -o page"
    )
    assert "page/report.html" in out
    page = (tmp_path / "page" / "report.md").read_text()
    assert "cat and dog" in page and "80 held-out samples" in page and "merged" in page
    assert "All 3 cut networks compute what the parent computes" in page
    run("report @parent.keras @activity.npz plans/cat.json --data @data.npz -o page --overwrite")
    page = (tmp_path / "page" / "report.md").read_text()
    assert "1 smaller network was cut out" in page and "merged" not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page", "plans"]


@pytest.mark.slow
def test_images_are_read_from_folders_at_the_models_scale(run, tmp_path):
    random = np.random.default_rng(0)
    for label in ("day", "night"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 120, (8, 8, 3)) + (120 if label == "day" else 0)
            keras.utils.save_img(tmp_path / "photos" / label / f"{number}.png", pixels, scale=False)
    layers = keras.layers
    for name, divisor in (("scaled", 1), ("raw", 255)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Rescaling(1 / divisor),
                layers.Conv2D(4, 3, activation="relu", name="conv"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2, activation="softmax"),
            ]
        )
        nns.save_model(model, tmp_path / f"{name}.keras")
    run("observe scaled.keras photos -o scaled.npz")
    run("observe raw.keras photos --no-scale -o raw.npz")
    one, other = (nns.Activity.load(tmp_path / f"{name}.npz") for name in ("scaled", "raw"))
    assert one.label_names == other.label_names == ("day", "night")
    np.testing.assert_allclose(one.mean("conv"), other.mean("conv"), rtol=1e-5)
    assert (one.mean("conv").max(axis=1) > 0).all()


@pytest.mark.slow
def test_simplify_and_cut_with_what_it_does(run, activity, parent, x, tmp_path):
    layers = keras.layers
    model = keras.models.clone_model(parent)
    kernel, bias = parent.layers[0].get_weights()
    kernel[:, 2], bias[2] = 0, -1
    model.set_weights([kernel, bias, *parent.get_weights()[2:]])
    nns.save_model(model, tmp_path / "dead.keras")
    out = run("simplify dead.keras -o lean.keras")
    lean = nns.load_model(tmp_path / "lean.keras")
    assert "1 of 12 units are constant" in out and lean.layers[0].units == 11
    np.testing.assert_allclose(answers(lean, x), answers(model, x), atol=1e-6)
    plan = nns.Plan(nns.fingerprint(model), {"one": 12, "two": 8}, {"one": (1, 2), "two": (0, 3)})
    plan.save(tmp_path / "plan.json")
    run("cut dead.keras plan.json --simplify --allow-empty -o small.keras")
    assert nns.load_model(tmp_path / "small.keras").layers[0].units == 1
    normed = keras.Sequential([keras.Input((6,)), layers.Dense(3), layers.BatchNormalization()])
    normed.add(layers.ReLU())
    nns.save_model(normed, tmp_path / "normed.keras")
    assert "folded into" in run("simplify normed.keras --fold-batch-norm -o folded.keras")
    assert len(nns.load_model(tmp_path / "folded.keras").layers) == 2


@pytest.mark.slow
def test_labels_are_taught_added_and_removed(run, shop, tmp_path):
    data = np.load(shop / "data.npz")
    x, y = np.concatenate([data["x_train"]] * 3), np.concatenate([data["y_train"]] * 3)
    x += np.random.default_rng(1).normal(0, 0.1, x.shape).astype("float32")
    y[x[:, 3] > 0.9] = "fox"
    np.savez(tmp_path / "four.npz", x=x, y=y)
    names = "cat,dog,eel,fox"
    line = "transfer @parent.keras four.npz --rates 0.02,0.005 --epochs 2 --checkpoint going.npz"
    assert "Taught cat, dog, eel, fox" in run(f"{line} -o taught.keras")
    assert (tmp_path / "going.npz").exists()
    parent = nns.load_model(shop / "parent.keras")
    expected = nns.transfer(parent, x, y, rates=[0.02, 0.005], epochs=2, held_out=0.1)
    assert answers(nns.load_model(tmp_path / "taught.keras"), x) == pytest.approx(
        answers(expected.model, x), abs=1e-5
    )
    # The model does not know its labels' names, and the data has them.
    assert "Added 'fox'" in run(f"add-label @parent.keras four.npz --label-names {names} "
                                "--name fox --epochs 2 -o four.keras")  # fmt: skip
    grown = nns.load_model(tmp_path / "four.keras")
    assert nns.lineage(grown).label_names == ("cat", "dog", "eel", "fox")
    assert "Removed 'fox'" in run("remove-label four.keras --label fox -o three.keras")
    assert "Removed 'dog'" in run("remove-label three.keras --label 1 -o two.keras")
    assert nns.lineage(nns.load_model(tmp_path / "two.keras")).label_names == ("cat", "eel")
    three = nns.load_model(tmp_path / "three.keras")
    assert answers(three, x) == pytest.approx(answers(parent, x), abs=1e-5)


def test_graph_writes_what_model_explorer_opens(run, shop, tmp_path):
    run("select @activity.npz --label cat -o cat.json")
    run("cut @parent.keras cat.json -o small.keras")
    said = run("graph @parent.keras small.keras cat.json -o both.graph.json")
    assert "units in small" in said and "model-explorer both.graph.json" in said
    graphs = json.loads((tmp_path / "both.graph.json").read_text())["graphs"]
    assert [graph["id"] for graph in graphs] == ["parent", "small"]
    told = json.loads(run("graph @parent.keras cat.json -o c.json --json"))
    cut = nns.load_model(tmp_path / "small.keras")
    assert sum(layer["parameters_kept"]["cat"] for layer in told["layers"]) == cut.count_params()
