"""The verbs of the engine on TensorFlow."""
