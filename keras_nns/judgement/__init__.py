"""The honest figures of a model, on samples that had no part in making it.

`evaluation` and `comparison` hold the verbs, `figures` what they count, `leakage` the guard.
"""
