"""Neural network surgery for Keras.

Watch a trained model label by label, cut out the physically smaller subnetwork that recognises the
labels you need, prove that the cut is exact, and ship it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_nns.activity import Activity
    from keras_nns.budgets import Budget
    from keras_nns.bundle import Bundle
    from keras_nns.calibration import calibrate_head
    from keras_nns.cohesion import Modularity, modularity
    from keras_nns.comparison import compare
    from keras_nns.composing import compose
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
    from keras_nns.evaluation import evaluate
    from keras_nns.extraction import Extraction, extract, search
    from keras_nns.feature_extraction import feature_dataset, feature_extractor, features
    from keras_nns.gradient_scores import contribution, fisher, taylor
    from keras_nns.gradients import Gradients, observe_gradients
    from keras_nns.gradual import GradualCut
    from keras_nns.grafting import graft
    from keras_nns.graph import trace
    from keras_nns.greedy import forward_selection
    from keras_nns.inspection import inspect
    from keras_nns.keep import above, at_least, fraction, top
    from keras_nns.label_removal import Removal, remove_label
    from keras_nns.model_files import Lineage, lineage, load_model, save_model
    from keras_nns.monitor import ActivityMonitor
    from keras_nns.new_heads import attach_head
    from keras_nns.new_labels import Extension, add_label
    from keras_nns.observation import observe
    from keras_nns.patching import Patched, patch
    from keras_nns.plan import Plan, merge
    from keras_nns.refit_losses import reconstruction
    from keras_nns.refitting import fold_means, least_squares, recalibrate_batch_norm
    from keras_nns.repairs import Repair, repair
    from keras_nns.rules import register_elementwise, register_rule
    from keras_nns.schedules import agp_schedule, cosine_schedule, linear_schedule
    from keras_nns.scores import (
        active_share,
        contrast,
        d_prime,
        firing_frequency,
        mean_activation,
        random_units,
    )
    from keras_nns.scratch import from_scratch
    from keras_nns.selection import select
    from keras_nns.sharing import Overlap, overlap
    from keras_nns.simplification import Simplification, simplify
    from keras_nns.splitting import Split, split
    from keras_nns.stepwise import Stage, in_steps
    from keras_nns.storing import restore, store
    from keras_nns.surgery import Proof, cut, fingerprint, mask, prove
    from keras_nns.sweeping import Sweep, sweep
    from keras_nns.tempering import calibrate_temperature
    from keras_nns.training import Trained, distill, fine_tune
    from keras_nns.transferring import Transfer, transfer
    from keras_nns.transplanting import Transplanted, transplant
    from keras_nns.unfolding import unfold
    from keras_nns.vocabulary import keep_tokens
    from keras_nns.watching import probe
    from keras_nns.weight_scores import batch_norm_scale, geometric_median, lamp, magnitude
    from keras_nns.writing_back import merge_models, write_back

_HOME = {
    "activity": ["Activity"],
    "budgets": ["Budget"],
    "bundle": ["Bundle"],
    "calibration": ["calibrate_head"],
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
    "cohesion": ["Modularity", "modularity"],
    "comparison": ["compare"],
    "composing": ["compose"],
    "evaluation": ["evaluate"],
    "extraction": ["Extraction", "extract", "search"],
    "feature_extraction": ["feature_dataset", "feature_extractor", "features"],
    "gradient_scores": ["contribution", "fisher", "taylor"],
    "gradients": ["Gradients", "observe_gradients"],
    "gradual": ["GradualCut"],
    "grafting": ["graft"],
    "graph": ["trace"],
    "inspection": ["inspect"],
    "greedy": ["forward_selection"],
    "keep": ["above", "at_least", "fraction", "top"],
    "model_files": ["Lineage", "lineage", "load_model", "save_model"],
    "monitor": ["ActivityMonitor"],
    "new_heads": ["attach_head"],
    "label_removal": ["Removal", "remove_label"],
    "new_labels": ["Extension", "add_label"],
    "observation": ["observe"],
    "patching": ["Patched", "patch"],
    "plan": ["Plan", "merge"],
    "refit_losses": ["reconstruction"],
    "refitting": ["fold_means", "least_squares", "recalibrate_batch_norm"],
    "repairs": ["Repair", "repair"],
    "rules": ["register_elementwise", "register_rule"],
    "schedules": ["agp_schedule", "cosine_schedule", "linear_schedule"],
    "scores": [
        "active_share",
        "contrast",
        "d_prime",
        "firing_frequency",
        "mean_activation",
        "random_units",
    ],
    "scratch": ["from_scratch"],
    "selection": ["select"],
    "sharing": ["Overlap", "overlap"],
    "simplification": ["Simplification", "simplify"],
    "splitting": ["Split", "split"],
    "stepwise": ["Stage", "in_steps"],
    "storing": ["restore", "store"],
    "surgery": ["Proof", "cut", "fingerprint", "mask", "prove"],
    "sweeping": ["Sweep", "sweep"],
    "tempering": ["calibrate_temperature"],
    "training": ["Trained", "distill", "fine_tune"],
    "transferring": ["Transfer", "transfer"],
    "transplanting": ["Transplanted", "transplant"],
    "unfolding": ["unfold"],
    "vocabulary": ["keep_tokens"],
    "watching": ["probe"],
    "weight_scores": ["batch_norm_scale", "geometric_median", "lamp", "magnitude"],
    "writing_back": ["merge_models", "write_back"],
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
