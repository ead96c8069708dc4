"""Rules: teach the library a layer of your own, in one function."""

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
