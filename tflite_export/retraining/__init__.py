"""A Keras 3 model trained by tools of Keras 2, and its weights brought back.

For `tfmot`, whose functions are the public ones.
"""
