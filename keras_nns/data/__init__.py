"""Any data that Keras takes, opened as checked batches of inputs and labels.

`batches` is the way in; `named` and `formats` know data sets and files, `labels` every form of
label, `splitting` makes honest parts and `sketch` knows samples again.
"""
