"""The backend that models run on, behind a few verbs: the one room that names TensorFlow.

`steps` runs a function of batches compiled, `staging` brings arrays into it, `accumulators` holds
sums between steps, `derivatives` takes gradients, `datasets`, `images` and `tensors` open data,
`operations` has what `keras.ops` lacks. Each module says what another backend would have to bring.
"""
