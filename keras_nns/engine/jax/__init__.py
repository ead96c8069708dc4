"""The verbs of the engine on jax."""
