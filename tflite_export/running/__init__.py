"""Native code run in silence: the LiteRT interpreter, and a file's answers judged.

Any module here may be imported. Needs no TensorFlow.
"""
