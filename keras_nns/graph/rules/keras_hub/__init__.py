"""Layers of KerasHub backbones that `unfold` cannot write out, one file for each kin.

Imported by `rules.load_extras` when the user has imported `keras_hub`; the package does not need
it. Heads and feed-forward units can be cut. The residual stream stays: what normalises it takes
statistics over all of its features.
"""
