"""Callbacks that step into `model.fit`.

`monitor` watches units while a model is trained, `gradual` removes them.
"""
