"""Results: what the verbs return. Each prints as a table or a sentence.

>>> isinstance(nns.compare(model, three, x_test, y_test), nns.results.Comparison)
True
"""

from keras_nns.composition.patching import Patched
from keras_nns.composition.transplanting import Transplanted
from keras_nns.data.named import Splits
from keras_nns.data.splitting import Split
from keras_nns.extraction.language_outcome import LanguageExtraction
from keras_nns.extraction.language_sweep import LanguageSweep
from keras_nns.extraction.outcome import Extraction
from keras_nns.extraction.swept import Sweep
from keras_nns.extraction.widths import NpuWidths
from keras_nns.graph.inspection import GroupCost, Inspection
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.perplexity import Perplexity
from keras_nns.playing.looks import Look, Said
from keras_nns.playing.playground import Playground
from keras_nns.repairing.steps import Repair
from keras_nns.reporting.graph_view import GraphView, LayerView
from keras_nns.selection.modularity import Modularity
from keras_nns.selection.overlap import Overlap
from keras_nns.surgery.cleaning.simplification import Simplification
from keras_nns.surgery.lineage import Lineage
from keras_nns.surgery.proving import Proof
from keras_nns.surgery.tokens.counting import TokenCounts
from keras_nns.surgery.tokens.cutting import VocabularyCut
from keras_nns.training.iterative import Stage
from keras_nns.training.outcome import Trained
from keras_nns.transferring.adding import Extension
from keras_nns.transferring.removing import Removal
from keras_nns.transferring.stages import Transfer

__all__ = [
    "Comparison",
    "Evaluation",
    "Extension",
    "Extraction",
    "GraphView",
    "GroupCost",
    "Inspection",
    "LanguageExtraction",
    "LanguageSweep",
    "LayerView",
    "Lineage",
    "Look",
    "Modularity",
    "NpuWidths",
    "Overlap",
    "Patched",
    "Perplexity",
    "Playground",
    "Proof",
    "Removal",
    "Repair",
    "Said",
    "Simplification",
    "Split",
    "Splits",
    "Stage",
    "Sweep",
    "TokenCounts",
    "Trained",
    "Transfer",
    "Transplanted",
    "VocabularyCut",
]


def __dir__() -> list[str]:
    return __all__
