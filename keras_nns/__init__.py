"""Neural network surgery for Keras.

Watch a trained model label by label, cut out the physically smaller subnetwork that recognises the
labels you need, prove that the cut is exact, and ship it.

What people type stands here; families have a name of their own: `scores`, `steps` (of a repair),
`schedules`, `rules` (for layers of your own), `plots`, `results` (what verbs return), `errors`;
`distributed` has the verbs for a cluster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_nns.engine.configured import explain_missing

if TYPE_CHECKING:
    from keras_nns import distributed, errors, plots, results, rules, schedules, scores, steps
    from keras_nns.bundles.archive import Bundle
    from keras_nns.bundles.storing import restore, store
    from keras_nns.callbacks.gradual import GradualCut
    from keras_nns.callbacks.monitor import ActivityMonitor
    from keras_nns.composition.combining import compose
    from keras_nns.composition.grafting import graft
    from keras_nns.composition.one_vs_rest import one_vs_rest
    from keras_nns.composition.patching import patch
    from keras_nns.composition.transplanting import transplant
    from keras_nns.data.named import load_dataset
    from keras_nns.data.splitting import split
    from keras_nns.errors import NNSError
    from keras_nns.extraction.budgeted import extract
    from keras_nns.extraction.inspecting import inspect
    from keras_nns.extraction.trade_off import sweep
    from keras_nns.extraction.widths import npu_widths
    from keras_nns.graph.budgets import Budget
    from keras_nns.judgement.comparison import compare
    from keras_nns.judgement.evaluation import evaluate
    from keras_nns.judgement.perplexity import perplexity
    from keras_nns.observation.activity import Activity
    from keras_nns.observation.adding import add
    from keras_nns.observation.gradient_sums import Gradients
    from keras_nns.observation.gradients import observe_gradients
    from keras_nns.observation.probing import probe
    from keras_nns.observation.streaming import observe
    from keras_nns.plans.keep_rules import above, at_least, fraction, top, uniform
    from keras_nns.plans.kept_units import Plan
    from keras_nns.playing.playground import play
    from keras_nns.repairing.merging import merge
    from keras_nns.repairing.steps import repair
    from keras_nns.repairing.writing_back import write_back
    from keras_nns.reporting.graph_view import graph_view
    from keras_nns.selection.choosing import select
    from keras_nns.selection.modularity import modularity
    from keras_nns.selection.overlap import overlap
    from keras_nns.surgery.cleaning.simplification import simplify
    from keras_nns.surgery.cutting import cut, fingerprint, mask, prove
    from keras_nns.surgery.lineage import lineage, save_model
    from keras_nns.surgery.loading import load_model
    from keras_nns.surgery.tokens.counting import count_tokens
    from keras_nns.surgery.tokens.cutting import cut_vocabulary
    from keras_nns.surgery.unfolding import unfold
    from keras_nns.surgery.vocabulary import keep_tokens
    from keras_nns.training.distillation import distill
    from keras_nns.training.fine_tuning import fine_tune
    from keras_nns.training.iterative import in_steps
    from keras_nns.training.scratch import from_scratch
    from keras_nns.transferring.adding import add_label
    from keras_nns.transferring.features import feature_dataset, feature_extractor, features
    from keras_nns.transferring.heads import attach_head
    from keras_nns.transferring.removing import remove_label
    from keras_nns.transferring.stages import transfer

_HOME = {
    "bundles.archive": ["Bundle"],
    "bundles.storing": ["restore", "store"],
    "callbacks.gradual": ["GradualCut"],
    "callbacks.monitor": ["ActivityMonitor"],
    "composition.combining": ["compose"],
    "composition.grafting": ["graft"],
    "composition.one_vs_rest": ["one_vs_rest"],
    "composition.patching": ["patch"],
    "composition.transplanting": ["transplant"],
    "data.named": ["load_dataset"],
    "data.splitting": ["split"],
    "errors": ["NNSError"],
    "extraction.budgeted": ["extract"],
    "extraction.inspecting": ["inspect"],
    "extraction.trade_off": ["sweep"],
    "extraction.widths": ["npu_widths"],
    "graph.budgets": ["Budget"],
    "judgement.comparison": ["compare"],
    "judgement.evaluation": ["evaluate"],
    "judgement.perplexity": ["perplexity"],
    "observation.activity": ["Activity"],
    "observation.adding": ["add"],
    "observation.gradient_sums": ["Gradients"],
    "observation.gradients": ["observe_gradients"],
    "observation.probing": ["probe"],
    "observation.streaming": ["observe"],
    "plans.keep_rules": ["above", "at_least", "fraction", "top", "uniform"],
    "plans.kept_units": ["Plan"],
    "playing.playground": ["play"],
    "repairing.merging": ["merge"],
    "repairing.steps": ["repair"],
    "repairing.writing_back": ["write_back"],
    "reporting.graph_view": ["graph_view"],
    "selection.choosing": ["select"],
    "selection.modularity": ["modularity"],
    "selection.overlap": ["overlap"],
    "surgery.cleaning.simplification": ["simplify"],
    "surgery.cutting": ["cut", "fingerprint", "mask", "prove"],
    "surgery.lineage": ["lineage", "save_model"],
    "surgery.loading": ["load_model"],
    "surgery.tokens.counting": ["count_tokens"],
    "surgery.tokens.cutting": ["cut_vocabulary"],
    "surgery.unfolding": ["unfold"],
    "surgery.vocabulary": ["keep_tokens"],
    "training.distillation": ["distill"],
    "training.fine_tuning": ["fine_tune"],
    "training.iterative": ["in_steps"],
    "training.scratch": ["from_scratch"],
    "transferring.adding": ["add_label"],
    "transferring.features": ["feature_dataset", "feature_extractor", "features"],
    "transferring.heads": ["attach_head"],
    "transferring.removing": ["remove_label"],
    "transferring.stages": ["transfer"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_FAMILIES = ("distributed", "errors", "plots", "results", "rules", "schedules", "scores", "steps")

__all__ = [
    "Activity",
    "ActivityMonitor",
    "Budget",
    "Bundle",
    "Gradients",
    "GradualCut",
    "NNSError",
    "Plan",
    "above",
    "add",
    "add_label",
    "at_least",
    "attach_head",
    "compare",
    "compose",
    "count_tokens",
    "cut",
    "cut_vocabulary",
    "distill",
    "distributed",
    "errors",
    "evaluate",
    "extract",
    "feature_dataset",
    "feature_extractor",
    "features",
    "fine_tune",
    "fingerprint",
    "fraction",
    "from_scratch",
    "graft",
    "graph_view",
    "in_steps",
    "inspect",
    "keep_tokens",
    "lineage",
    "load_dataset",
    "load_model",
    "mask",
    "merge",
    "modularity",
    "npu_widths",
    "observe",
    "observe_gradients",
    "one_vs_rest",
    "overlap",
    "patch",
    "perplexity",
    "play",
    "plots",
    "probe",
    "prove",
    "remove_label",
    "repair",
    "restore",
    "results",
    "rules",
    "save_model",
    "schedules",
    "scores",
    "select",
    "simplify",
    "split",
    "steps",
    "store",
    "sweep",
    "top",
    "transfer",
    "transplant",
    "unfold",
    "uniform",
    "write_back",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that importing the package alone loads nothing heavy."""
    if name in _FAMILIES:
        return import_module(f"keras_nns.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_nns' has no attribute {name!r}")
    value = getattr(import_module(f"keras_nns.{_MODULE_OF[name]}"), name)
    # Found at once from now on.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


explain_missing()
