"""Rules: teach the library a layer of your own, in one function.

>>> class Double(keras.layers.Layer):
...     def call(self, inputs):
...         return 2 * inputs
>>> @nns.rules.register(Double)
... def double(site):
...     site.emit(site.input.units)
"""

from keras_nns.graph.rules import FIXED, Site, Stream, register, register_elementwise

__all__ = [
    "FIXED",
    "Site",
    "Stream",
    "register",
    "register_elementwise",
]


def __dir__() -> list[str]:
    return __all__
