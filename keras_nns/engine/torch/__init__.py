"""The verbs of the engine on torch."""
