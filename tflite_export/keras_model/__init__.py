"""A Keras model as a pure function of named tensors: its ends, its samples, its decisions.

`source` is the one module that looks inside Keras; any module here may be imported.
"""
