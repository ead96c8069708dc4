"""The backend that models run on, behind a few verbs: the one room that names TensorFlow.

Other rooms speak `keras.ops`, numpy, and these: `steps` and `staging` run a function of batches
compiled, `accumulators` hold sums between steps, `derivatives` take gradients, `datasets`, `images`
and `tensors` read data, `operations` are what `keras.ops` lacks. Each module says what another
backend would have to bring.
"""
