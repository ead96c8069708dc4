"""The whole contract table: every file of rows, read once."""

import contract_algebra
import contract_attention
import contract_features
import contract_models
import contract_moves
import contract_operations
import contract_recurrent
import contract_shapes
import contract_weights
from contract import ROWS, Row

FILES = (
    contract_weights,
    contract_features,
    contract_shapes,
    contract_models,
    contract_recurrent,
    contract_attention,
    contract_operations,
    contract_moves,
    contract_algebra,
)

__all__ = ["FILES", "ROWS", "Row"]
