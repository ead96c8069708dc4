"""*NNS: neural network surgery*, reproduced to the digit and surpassed.

`method` is the paper as code, `reproduction` runs every table and figure.
"""
