"""Any data that Keras takes, opened as checked batches of inputs and labels.

`batches` is the way in: it opens the container (`streams`; `named` and `formats` know data sets and
files), checks it once against the model (`inputs`, `labels`) and streams. `scale` holds it against
the model's answers, `splitting` makes honest parts and `sketch` knows samples again.
"""
