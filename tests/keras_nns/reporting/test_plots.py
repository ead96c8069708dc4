"""What is drawn is what was given: figures are read back artist by artist."""

import io
import math

import keras
import matplotlib
import numpy as np
import pytest
from keras import layers
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from keras_nns import plots
from keras_nns.errors import FileError, SelectionError
from keras_nns.graph.costs import Costs
from keras_nns.graph.tracing import trace
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.rows import LabelFigures
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import LayerActivity
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint, Group, Layout, Member
from keras_nns.reporting import canvas
from keras_nns.surgery.cutting import cut, mask

MODEL = Fingerprint("s", "w")


def activity(values, samples, names=None, **more):
    labels, units = values.shape
    totals = values * np.asarray(samples)[:, None]
    layer = LayerActivity(total=totals, magnitude=np.abs(totals), **more)
    layout = Layout((Group("dense", units, (Member("dense", tuple(range(units))),)),))
    names = names or tuple(f"label {i}" for i in range(labels))
    return Activity(MODEL, layout, names, np.asarray(samples), {"dense": layer})


def plan(labels, size=6, **kept):
    names = ("cat", "dog", "eel", "fox")
    return Plan(MODEL, dict.fromkeys(kept, size), kept, labels, names)


def image(axes):
    return np.ma.filled(np.ma.masked_invalid(axes.get_images()[0].get_array()), np.nan)


def names(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def drawn(figure, tmp_path):
    """Render a figure and return the picture's size."""
    plots.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        picture.verify()
        return picture.size


def test_activity_is_drawn_as_it_is(tmp_path):
    values = np.random.default_rng(0).uniform(size=(4, 7))
    figure = plots.activity_heatmap(activity(values, [3, 0, 5, 2]), "dense")
    axes, bar = figure.axes
    expected = values.copy()
    expected[1] = np.nan
    np.testing.assert_allclose(image(axes), expected)
    assert names(axes.yaxis) == [f"label {i}" for i in range(4)]
    assert axes.get_images()[0].get_clim() == (0, pytest.approx(np.nanmax(expected)))
    assert bar.get_ylabel() == "mean output" and axes.get_xlabel() == "unit of dense"
    assert drawn(figure, tmp_path)[0] > 500


def test_a_notebook_shows_a_figure_without_pyplot():
    figure = plots.activity_heatmap(activity(np.ones((2, 3)), [1, 1]), "dense")
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert (shown.format, shown.size) == (
        "PNG",
        Image.open(io.BytesIO(plots.rendered(figure))).size,
    )


def test_signed_activity_is_centred_on_zero():
    values = np.array([[-2.0, 0.5], [1.0, 0.0]])
    axes = plots.activity_heatmap(activity(values, [1, 1]), "dense").axes[0]
    assert axes.get_images()[0].get_clim() == (-2, 2)


@pytest.mark.parametrize("statistic", ["magnitude", "firing_rate"])
def test_other_statistics_are_drawn(statistic):
    watched = activity(-np.ones((2, 3)), [4, 4], fired=np.full((2, 3), 2))
    axes = plots.activity_heatmap(watched, "dense", statistic=statistic).axes[0]
    assert (image(axes) == getattr(watched, statistic)("dense")).all()


def test_unknown_statistics_are_refused():
    with pytest.raises(SelectionError, match="'median'"):
        plots.activity_heatmap(activity(np.ones((2, 3)), [1, 1]), "dense", statistic="median")
    with pytest.raises(SelectionError, match="variance was not watched"):
        plots.activity_heatmap(activity(np.ones((2, 3)), [1, 1]), "dense", statistic="variance")


def test_kept_units_are_drawn_one_row_per_plan():
    plans = [plan((0,), a=(0, 2), b=(1,)), plan((1, 3), a=(2, 5), b=()), plan((), a=(), b=())]
    axes = plots.kept_units(plans, "a").axes[0]
    assert image(axes).tolist() == [[1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1], [0] * 6]
    assert names(axes.yaxis) == ["cat  (2)", "dog + fox  (2)", "no label  (0)"]
    assert "3 of 6" in axes.get_title()
    with pytest.raises(SelectionError, match=r"\['a', 'b'\]"):
        plots.kept_units(plans, "c")
    with pytest.raises(SelectionError, match="no plan"):
        plots.kept_units([], "a")


def test_overlap_is_the_jaccard_index_over_all_groups():
    plans = [plan((i,), a=a, b=b) for i, (a, b) in enumerate([((0, 1), (2,)), ((1,), (2, 3))])]
    axes = plots.overlap([*plans, plan((2,), a=(), b=())]).axes[0]
    np.testing.assert_allclose(image(axes), [[1, 0.5, 0], [0.5, 1, 0], [0, 0, np.nan]])
    assert [t.get_text() for t in axes.texts].count("0.50") == 2
    assert names(axes.xaxis) == names(axes.yaxis) == ["cat", "dog", "eel"]
    with pytest.raises(SelectionError, match="different models"):
        plots.overlap([plans[0], plan((1,), size=7, a=(0,), b=(1,))])


@pytest.fixture(scope="module")
def parent():
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(8, activation="relu", name="dense"),
            layers.Dense(4, activation="softmax", name="answer"),
        ]
    )


KEPT = {"conv": (0, 2, 3), "dense": (1, 2, 6)}


def cut_plan(parent):
    sizes = {"conv": 5, "dense": 8}
    return Plan(trace(parent).fingerprint, sizes, KEPT, (1, 3), ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("layer", "head"),
    [("conv", "parent"), ("dense", "parent"), ("answer", "parent"), ("answer", "labels")],
)
def test_weights_are_those_of_the_masked_parent_and_of_the_cut(parent, layer, head):
    small = cut(parent, cut_plan(parent), head=head)
    figure = plots.weights_before_after(parent, small, layer)
    before, masked, after = (image(axes) for axes in figure.axes[:3])
    whole = parent.get_layer(layer).kernel.numpy()
    rows = {
        "conv": range(18),
        "dense": [i for i in range(80) if i % 5 in KEPT["conv"]],
        "answer": KEPT["dense"],
    }[layer]
    columns = {**KEPT, "answer": (1, 3) if head == "labels" else range(4)}[layer]
    np.testing.assert_array_equal(before, whole.reshape(-1, whole.shape[-1]))
    stays = np.zeros(before.shape, bool)
    stays[np.ix_(list(rows), list(columns))] = True
    np.testing.assert_array_equal(np.isnan(masked), ~stays)
    np.testing.assert_array_equal(masked[stays], before[stays])
    np.testing.assert_array_equal(after, before[np.ix_(list(rows), list(columns))])
    assert len({axes.get_xlim() for axes in figure.axes[:3]}) == 1


def test_weights_of_what_was_not_cut_are_refused(parent):
    small = cut(parent, cut_plan(parent))
    with pytest.raises(SelectionError, match="not cut from a parent"):
        plots.weights_before_after(parent, mask(parent, cut_plan(parent)), "dense")
    with pytest.raises(SelectionError, match="'conv', 'dense', 'answer'"):
        plots.weights_before_after(parent, small, "flatten")


def comparison(*rows):
    """Build a comparison from (name, recall before, after, specificity before, after)."""

    def evaluation(place):
        figures = tuple(
            LabelFigures(i, r[0], 9, r[1 + place], r[3 + place], 0.5, 0.5, 0.5)
            for i, r in enumerate(rows)
        )
        return Evaluation("net", "parent", figures, ("a",), None, 0.5, 9, 0, False)

    before = evaluation(0)
    return Comparison(before, evaluation(1), before, Costs(8, 6, 32), Costs(4, 3, 16))


def bars(axes):
    return [[bar.get_width() for bar in group] for group in axes.containers]


def test_recall_and_specificity_stand_side_by_side():
    one = comparison(("cat", 0.9, 0.8, 0.7, 0.0), ("dog", 0.6, 0.5, 0.4, math.nan))
    figure = plots.recall_specificity([one, comparison(("eel", 0.1, 0.2, 0.3, 0.4))])
    recall, specificity = figure.axes
    assert bars(recall) == [[0.9, 0.6, 0.1], [0.8, 0.5, 0.2]]
    np.testing.assert_equal(bars(specificity), [[0.7, 0.4, 0.3], [0.0, math.nan, 0.4]])
    assert names(recall.yaxis) == ["cat", "dog", "eel"]
    words = [text.get_text() for text in specificity.texts]
    assert words.count("undefined") == 1 and words.count("0.00") == 1
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["parent", "subnetwork"]
    assert bars(plots.recall_specificity(one).axes[0]) == [[0.9, 0.6], [0.8, 0.5]]
    with pytest.raises(SelectionError, match="no comparison"):
        plots.recall_specificity([])


def test_costs_are_drawn_with_their_share_of_the_parent():
    rows = {"net": Costs(200, 100, 800), "small": Costs(50, 20, 200, 1234)}
    figure = plots.sizes(rows)
    titles = [axes.get_xlabel() for axes in figure.axes]
    assert titles == [
        "parameters",
        "multiply-adds",
        "bytes of weights (float32)",
        "bytes of .tflite",
    ]
    assert bars(figure.axes[0]) == [[200, 50]]
    assert [t.get_text() for t in figure.axes[1].texts] == ["100 (100%)", "20 (20%)"]
    np.testing.assert_equal(bars(figure.axes[3]), [[math.nan, 1234]])
    assert len(plots.sizes({"net": Costs(200, 100, 800)}).axes) == 3
    with pytest.raises(SelectionError, match="no model"):
        plots.sizes({})


@pytest.mark.slow
def test_a_hundred_labels_and_two_thousand_units_stay_readable(tmp_path):
    # Two dollars are mathematics to matplotlib, and its font has no Chinese.
    odd = tuple(f"$x_{i}$ 猫\n" + "long " * 20 for i in range(100))
    values = np.random.default_rng(0).uniform(size=(100, 2000))
    figure = plots.activity_heatmap(activity(values, [1] * 100, odd), "dense")
    shown = names(figure.axes[0].yaxis)
    assert len(shown) == 100 and max(map(len, shown)) <= 27
    assert shown[3].startswith(r"\$x_3\$ 猫 long")
    width, height = drawn(figure, tmp_path)
    assert width > 2000 and height > 100 * 12
    plans = [
        Plan(MODEL, {"a": 2000}, {"a": tuple(np.flatnonzero(row > 0.9))}, (i,), odd)
        for i, row in enumerate(values)
    ]
    for figure in (plots.kept_units(plans, "a"), plots.overlap(plans)):
        assert len(names(figure.axes[0].yaxis)) == 100


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 9000), (9000, 3)])
def test_what_is_finer_than_the_pixels_is_averaged_and_never_smeared(shape):
    figure = Figure(figsize=(6, 6), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    wide = shape[1] > shape[0]
    # Three bands along the short axis, stripes of one cell along the long one.
    band, stripe = np.indices(shape) if wide else np.indices(shape)[::-1]
    drawn = canvas.matrix(axes, band + stripe % 2, vmin=0, vmax=3, cmap="gray")
    assert drawn.get_extent() == [-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5]
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    with Image.open(stream) as picture:
        greys = np.asarray(picture.convert("L")).astype(int)
    across = (greys if wide else greys.T)[:, 300]
    for start, value in ((0, 0.5), (200, 1.5), (400, 2.5)):
        inner = across[start + 3 : start + 197]
        np.testing.assert_allclose(inner, value / 3 * 255, atol=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_saving_is_atomic_and_never_overwrites_unasked(tmp_path, kind):
    figure = plots.sizes({"net": Costs(200, 100, 800)})
    path = tmp_path / "new" / f"sizes.{kind}"
    plots.save(figure, path)
    first = path.read_bytes()
    with pytest.raises(FileError, match="already exists"):
        plots.save(figure, path)
    plots.save(figure, path, overwrite=True)
    assert first[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(FileError, match=r"\.png"):
        plots.save(figure, tmp_path / "sizes.gif")


def test_plots_of_one_panel_go_on_the_axes_given(tmp_path):
    figure = Figure(figsize=(9, 8), layout="constrained")
    first, second, third, last = figure.subplots(2, 2).flatten()
    values = np.random.default_rng(0).uniform(size=(2, 6))
    plans = [plan((0,), a=(0, 2)), plan((1,), a=(2, 5))]
    assert plots.activity_heatmap(activity(values, [3, 5]), "dense", ax=first) is figure
    assert plots.kept_units(plans, "a", ax=second) is figure
    assert plots.overlap(plans, ax=third) is figure
    np.testing.assert_allclose(image(first), values)
    assert image(second).tolist() == [[1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1]]
    assert image(third)[0, 1] == pytest.approx(1 / 3)
    assert not last.get_images()
    part = figure.subfigures(1, 1).subplots()
    assert plots.kept_units(plans, "a", ax=part) is figure
    last.remove()
    with pytest.raises(SelectionError, match="belong to no figure"):
        plots.overlap(plans, ax=last)


def test_nothing_of_matplotlibs_shared_state_is_touched():
    before = dict(matplotlib.rcParams)
    figure = plots.sizes({"net": Costs(200, 100, 800)})
    plots.rendered(figure)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
