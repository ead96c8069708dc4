"""Neural network surgery for Keras.

Watch a trained model label by label, cut out the physically smaller subnetwork that recognises the
labels you need, prove that the cut is exact, and ship it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_nns.bundles.archive import Bundle
    from keras_nns.bundles.storing import restore, store
    from keras_nns.callbacks.gradual import GradualCut
    from keras_nns.callbacks.monitor import ActivityMonitor
    from keras_nns.composition.combining import compose
    from keras_nns.composition.grafting import graft
    from keras_nns.composition.patching import Patched, patch
    from keras_nns.composition.transplanting import Transplanted, transplant
    from keras_nns.data.splitting import Split, split
    from keras_nns.errors import (
        DataError,
        FileError,
        ModelError,
        NNSError,
        PlanError,
        ProofError,
        SelectionError,
        SurgeryError,
    )
    from keras_nns.extraction.budgeted import Extraction, extract, search
    from keras_nns.extraction.trade_off import Sweep, sweep
    from keras_nns.graph.budgets import Budget
    from keras_nns.graph.inspection import inspect
    from keras_nns.graph.rules import register_elementwise, register_rule
    from keras_nns.graph.tracing import trace
    from keras_nns.judgement.comparison import compare
    from keras_nns.judgement.evaluation import evaluate
    from keras_nns.observation.activity import Activity
    from keras_nns.observation.gradients import Gradients, observe_gradients
    from keras_nns.observation.probing import probe
    from keras_nns.observation.streaming import observe
    from keras_nns.plans.keep_rules import above, at_least, fraction, top
    from keras_nns.plans.kept_units import Plan, merge
    from keras_nns.plans.schedules import agp_schedule, cosine_schedule, linear_schedule
    from keras_nns.repairing.head_fit import calibrate_head
    from keras_nns.repairing.least_squares import fold_means, least_squares, recalibrate_batch_norm
    from keras_nns.repairing.steps import Repair, repair
    from keras_nns.repairing.temperature import calibrate_temperature
    from keras_nns.repairing.writing_back import merge_models, write_back
    from keras_nns.selection.activations import (
        active_share,
        contrast,
        d_prime,
        firing_frequency,
        mean_activation,
        random_units,
    )
    from keras_nns.selection.choosing import select
    from keras_nns.selection.gradients import contribution, fisher, taylor
    from keras_nns.selection.greedy import forward_selection
    from keras_nns.selection.modularity import Modularity, modularity
    from keras_nns.selection.overlap import Overlap, overlap
    from keras_nns.selection.reconstruction import reconstruction
    from keras_nns.selection.weights import batch_norm_scale, geometric_median, lamp, magnitude
    from keras_nns.surgery.cleaning.simplification import Simplification, simplify
    from keras_nns.surgery.cutting import Proof, cut, fingerprint, mask, prove
    from keras_nns.surgery.lineage import Lineage, lineage, load_model, save_model
    from keras_nns.surgery.unfolding import unfold
    from keras_nns.surgery.vocabulary import keep_tokens
    from keras_nns.training.distillation import Trained, distill, fine_tune
    from keras_nns.training.iterative import Stage, in_steps
    from keras_nns.training.scratch import from_scratch
    from keras_nns.transferring.adding import Extension, add_label
    from keras_nns.transferring.features import feature_dataset, feature_extractor, features
    from keras_nns.transferring.heads import attach_head
    from keras_nns.transferring.removing import Removal, remove_label
    from keras_nns.transferring.stages import Transfer, transfer

_HOME = {
    "observation.activity": ["Activity"],
    "graph.budgets": ["Budget"],
    "bundles.archive": ["Bundle"],
    "repairing.head_fit": ["calibrate_head"],
    "errors": [
        "DataError",
        "FileError",
        "ModelError",
        "NNSError",
        "PlanError",
        "ProofError",
        "SelectionError",
        "SurgeryError",
    ],
    "selection.modularity": ["Modularity", "modularity"],
    "judgement.comparison": ["compare"],
    "composition.combining": ["compose"],
    "judgement.evaluation": ["evaluate"],
    "extraction.budgeted": ["Extraction", "extract", "search"],
    "transferring.features": ["feature_dataset", "feature_extractor", "features"],
    "selection.gradients": ["contribution", "fisher", "taylor"],
    "observation.gradients": ["Gradients", "observe_gradients"],
    "callbacks.gradual": ["GradualCut"],
    "composition.grafting": ["graft"],
    "graph.tracing": ["trace"],
    "graph.inspection": ["inspect"],
    "selection.greedy": ["forward_selection"],
    "plans.keep_rules": ["above", "at_least", "fraction", "top"],
    "surgery.lineage": ["Lineage", "lineage", "load_model", "save_model"],
    "callbacks.monitor": ["ActivityMonitor"],
    "transferring.heads": ["attach_head"],
    "transferring.removing": ["Removal", "remove_label"],
    "transferring.adding": ["Extension", "add_label"],
    "observation.streaming": ["observe"],
    "composition.patching": ["Patched", "patch"],
    "plans.kept_units": ["Plan", "merge"],
    "selection.reconstruction": ["reconstruction"],
    "repairing.least_squares": ["fold_means", "least_squares", "recalibrate_batch_norm"],
    "repairing.steps": ["Repair", "repair"],
    "graph.rules": ["register_elementwise", "register_rule"],
    "plans.schedules": ["agp_schedule", "cosine_schedule", "linear_schedule"],
    "selection.activations": [
        "active_share",
        "contrast",
        "d_prime",
        "firing_frequency",
        "mean_activation",
        "random_units",
    ],
    "training.scratch": ["from_scratch"],
    "selection.choosing": ["select"],
    "selection.overlap": ["Overlap", "overlap"],
    "surgery.cleaning.simplification": ["Simplification", "simplify"],
    "data.splitting": ["Split", "split"],
    "training.iterative": ["Stage", "in_steps"],
    "bundles.storing": ["restore", "store"],
    "surgery.cutting": ["Proof", "cut", "fingerprint", "mask", "prove"],
    "extraction.trade_off": ["Sweep", "sweep"],
    "repairing.temperature": ["calibrate_temperature"],
    "training.distillation": ["Trained", "distill", "fine_tune"],
    "transferring.stages": ["Transfer", "transfer"],
    "composition.transplanting": ["Transplanted", "transplant"],
    "surgery.unfolding": ["unfold"],
    "surgery.vocabulary": ["keep_tokens"],
    "observation.probing": ["probe"],
    "selection.weights": ["batch_norm_scale", "geometric_median", "lamp", "magnitude"],
    "repairing.writing_back": ["merge_models", "write_back"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Activity",
    "ActivityMonitor",
    "Budget",
    "Bundle",
    "DataError",
    "Extension",
    "Extraction",
    "FileError",
    "Gradients",
    "GradualCut",
    "Lineage",
    "ModelError",
    "Modularity",
    "NNSError",
    "Overlap",
    "Patched",
    "Plan",
    "PlanError",
    "Proof",
    "ProofError",
    "Removal",
    "Repair",
    "SelectionError",
    "Simplification",
    "Split",
    "Stage",
    "SurgeryError",
    "Sweep",
    "Trained",
    "Transfer",
    "Transplanted",
    "above",
    "active_share",
    "add_label",
    "agp_schedule",
    "at_least",
    "attach_head",
    "batch_norm_scale",
    "calibrate_head",
    "calibrate_temperature",
    "compare",
    "compose",
    "contrast",
    "contribution",
    "cosine_schedule",
    "cut",
    "d_prime",
    "distill",
    "evaluate",
    "extract",
    "feature_dataset",
    "feature_extractor",
    "features",
    "fine_tune",
    "fingerprint",
    "firing_frequency",
    "fisher",
    "fold_means",
    "forward_selection",
    "fraction",
    "from_scratch",
    "geometric_median",
    "graft",
    "in_steps",
    "inspect",
    "keep_tokens",
    "lamp",
    "least_squares",
    "lineage",
    "linear_schedule",
    "load_model",
    "magnitude",
    "mask",
    "mean_activation",
    "merge",
    "merge_models",
    "modularity",
    "observe",
    "observe_gradients",
    "overlap",
    "patch",
    "probe",
    "prove",
    "random_units",
    "recalibrate_batch_norm",
    "reconstruction",
    "register_elementwise",
    "register_rule",
    "remove_label",
    "repair",
    "restore",
    "save_model",
    "search",
    "select",
    "simplify",
    "split",
    "store",
    "sweep",
    "taylor",
    "top",
    "trace",
    "transfer",
    "transplant",
    "unfold",
    "write_back",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that importing the package alone loads nothing heavy."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_nns' has no attribute {name!r}")
    value = getattr(import_module(f"keras_nns.{_MODULE_OF[name]}"), name)
    # Found at once from now on.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
