"""Scores, keep rules and budgets by the words that a shell takes."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.cli.arguments import SCORES, WEIGHT_SCORES
from keras_nns.errors import SelectionError
from keras_nns.graph.budgets import as_budget
from keras_nns.plans.keep_rules import as_rule
from keras_nns.selection.naming import as_score

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
Y = np.arange(60) % 3


@pytest.fixture(scope="module")
def model():
    made = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "relu", name="h"), layers.Dense(3, "softmax")]
    )
    random = np.random.default_rng(1)
    made.set_weights([random.normal(size=w.shape) for w in made.get_weights()])
    return made


@pytest.fixture(scope="module")
def activity(model):
    return nns.observe(model, X, Y, verbose=False, statistics=["fired", "mean", "variance"])


@pytest.mark.parametrize("name", ["mean_activation", "firing_frequency", "contrast", "d_prime"])
def test_a_score_by_its_name_is_the_score(activity, name):
    named = nns.select(activity, 1, score=name, keep=nns.top(3))
    assert named == nns.select(activity, 1, score=getattr(nns.scores, name), keep=nns.top(3))


RULES = {0.4: nns.above(0.4), "0.4": nns.above(0.4), "top(3)": nns.top(3),
         "fraction(0.5, scope='global')": nns.fraction(0.5, scope="global")}  # fmt: skip


@pytest.mark.parametrize("given", RULES)
def test_a_rule_in_words_is_the_rule(activity, given):
    rule = RULES[given]
    assert nns.select(activity, 1, keep=given) == nns.select(activity, 1, keep=rule)
    assert as_rule(given).name == rule.name


def test_every_name_of_the_shell_is_known(model):
    for name in SCORES:
        assert as_score(name) is getattr(nns.scores, name)
    for name in set(WEIGHT_SCORES) - {"batch_norm_scale"}:  # This model has no batch norm.
        assert callable(as_score(name, model))


WRONG = {
    "no such score": ({"score": "loudness"}, "or the name of one: mean_activation"),
    "a score of weights": ({"score": "magnitude"}, r"score=nns\.scores\.magnitude\(model\)"),
    "a score of data": ({"score": "reconstruction"}, r"reconstruction\(model, data\)"),
    "no such rule": ({"keep": "best"}, "Expected a rule such as"),
    "no rule": ({"keep": True}, "`keep` must be a keep rule"),
}


MEANT = {
    8: r"keep=8\. .*pass nns\.top\(8\)",
    "8": r"'8'\. .*pass nns\.top\(8\)",
    1.5: r"keep=1\.5\. .*nns\.top, and for a share of them nns\.fraction",
    -1: r"keep=-1\. Pass a rule, such as nns\.top\(8\)",
    "top(0.5)": r"k=0\.5\. .*pass nns\.fraction\(0\.5\)",
    "fraction(8)": r"p=8\.0\. .*pass nns\.top\(8\)",
    "above(8)": r"zeta=8\.0\. .*pass nns\.top\(8\)",
}


@pytest.mark.parametrize("given", MEANT)
def test_a_number_that_cannot_be_meant_names_the_rule_that_may(activity, given):
    with pytest.raises(SelectionError, match=MEANT[given]) as caught:
        nns.select(activity, 1, keep=given)
    named = re.search(r"pass (nns\.(top|fraction)\(.*?\))", str(caught.value))
    if named is not None:
        plan = nns.select(activity, 1, keep=eval(named[1], {"nns": nns}))
        assert len(plan.kept["h"]) == {"top": 8, "fraction": 4}[named[2]]


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_known_is_refused_with_a_way_on(activity, case):
    options, said = WRONG[case]
    with pytest.raises(SelectionError, match=said):
        nns.select(activity, 1, **options)


def test_a_budget_in_words_is_the_budget():
    assert as_budget("60kB") == nns.Budget(bytes=60_000)
    assert as_budget("parameters=20k") == nns.Budget(parameters=20_000)
    assert as_budget("drop=0.01") == nns.Budget(drop=0.01)
    for wrong in ("60", 60, None):
        with pytest.raises(SelectionError, match="needs its unit"):
            as_budget(wrong)


@pytest.mark.filterwarnings("ignore:.*as by chance:keras_nns.errors.DataWarning")
def test_extract_takes_the_words_of_the_shell(model):
    options = {"labels": [0, 1], "repair": False}
    named = nns.extract(model, (X, Y), budget="parameters=50", score="magnitude", **options)
    score = nns.scores.magnitude(model)
    made = nns.extract(model, (X, Y), budget=nns.Budget(parameters=50), score=score, **options)
    assert named.plan.kept == made.plan.kept
