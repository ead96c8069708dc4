"""The paper's figures show what numpy says, and say on every axis what they show."""

from __future__ import annotations

import numpy as np
import pytest

from keras_nns.paper import beyond, method, plots, tables
from keras_nns.paper.method import HIDDEN, units_of

LABEL = 3


@pytest.fixture(scope="module")
def done():
    return tables.study(method.train_subject("digits"))


@pytest.fixture(scope="module")
def hidden(done):
    """What each unit gives for the label's inputs, by numpy."""
    kernel, bias = done.subject.model.get_layer(HIDDEN).get_weights()
    x = done.subject.x[done.subject.y == LABEL].astype(np.float64)
    return np.maximum(x @ kernel + bias, 0)


def drawn(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def heights(axes):
    return np.array([bar.get_height() for bar in axes.patches])


@pytest.mark.slow
def test_figure_2_is_the_snapshots(done, hidden):
    shown = drawn(plots.snapshots(done, LABEL).axes[0])
    np.testing.assert_allclose(shown, hidden[: len(shown)], atol=1e-5)
    assert len(shown) == 60


def test_figures_3_and_4_are_the_averages_before_and_after_the_filter(done, hidden):
    before, after = plots.averages(done, LABEL).axes
    mean = hidden.mean(axis=0)
    np.testing.assert_allclose(heights(before), mean, atol=1e-5)
    kept = np.flatnonzero(mean >= 0.4 * mean.max())
    np.testing.assert_allclose(heights(after), mean[kept], atol=1e-5)
    places = [bar.get_x() + bar.get_width() / 2 for bar in after.patches]
    np.testing.assert_allclose(places, kept)
    lines = [line.get_ydata()[0] for line in before.lines]
    np.testing.assert_allclose(lines, [zeta * mean.max() for zeta in (0.4, 0.5)], rtol=1e-5)


def test_figures_5_7_and_8_are_the_matrix_with_zeros_its_rows_and_the_matrix_again(done):
    zeroed, rows, back = map(drawn, plots.vectorised(done, LABEL).axes[:3])
    kernel = done.subject.model.get_layer(HIDDEN).kernel.numpy().T
    kept = list(units_of(done.plans[0.4][LABEL]))
    np.testing.assert_array_equal(rows, kernel[kept])
    np.testing.assert_array_equal(zeroed[kept], kernel[kept])
    assert not np.delete(zeroed, kept, axis=0).any()
    assert zeroed.shape == kernel.shape
    np.testing.assert_array_equal(back, zeroed)


def test_figure_9_is_what_each_further_unit_does(done):
    x, y = done.subject.x_test.astype(np.float64), done.subject.y_test
    w1, b1, w2, b2 = done.subject.model.get_weights()
    (axes,) = plots.growing(done, {LABEL: tables.growth(done, LABEL)}).axes
    curves = {line.get_label(): line.get_ydata() for line in axes.lines}
    loudest = np.argsort(-done.activity.mean(HIDDEN)[LABEL], kind="stable")
    for count in (1, 8, len(loudest)):
        mask = np.isin(np.arange(len(loudest)), loudest[:count])
        hidden = np.maximum(x @ w1 + b1, 0) * mask
        said = (hidden @ w2 + b2).argmax(axis=1) == LABEL
        recall, specificity = said[y == LABEL].mean(), 1 - said[y != LABEL].mean()
        assert curves["recall (the paper's accuracy)"][count - 1] == pytest.approx(recall)
        assert curves["specificity"][count - 1] == pytest.approx(specificity)
        balanced = (recall + specificity) / 2
        assert curves["balanced accuracy"][count - 1] == pytest.approx(balanced)


@pytest.mark.slow
def test_all_orders_end_at_the_same_point(done):
    runs = beyond.orders(done, 0.4)[:7]
    (axes,) = plots.ordered(runs, 0.4).axes
    ends = {line.get_ydata()[-1] for line in axes.lines}
    starts = {line.get_ydata()[0] for line in axes.lines}
    assert len(axes.lines) == 7 and len(ends) == 1 and len(starts) > 1


@pytest.mark.slow
def test_every_axis_says_what_it_shows_and_every_curve_has_its_name(done):
    sweep = beyond.sweep(done, 3)
    grown = {label: tables.growth(done, label) for label in (1, LABEL)}
    figures = {
        "snapshots": plots.snapshots(done, LABEL),
        "averages": plots.averages(done, LABEL),
        "vectorised": plots.vectorised(done, LABEL),
        "growing": plots.growing(done, grown),
        "swept": plots.swept(done, sweep),
        "ordered": plots.ordered(beyond.orders(done, 0.4)[:3], 0.4),
    }
    for name, figure in figures.items():
        panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        scales = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
        assert panels, name
        assert all(axes.get_title() for axes in panels), name
        assert panels[0].get_ylabel() and panels[-1].get_xlabel(), name
        assert all(axes.get_ylabel() for axes in scales), name
        if any(axes.images for axes in panels):
            assert scales, f"{name}: nothing says what the colours are"
        curves = [line for axes in panels for line in axes.lines]
        if len(curves) > 1:
            legends = [*figure.legends, *(axes.get_legend() for axes in panels)]
            named = {text.get_text() for legend in legends if legend for text in legend.texts}
            assert len(named) > 1, name
