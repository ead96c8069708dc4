"""The backend that models run on, behind a few verbs: the one room that names one.

Other rooms speak `keras.ops`, numpy, and these: `steps` and `staging` run a function of batches
compiled, `accumulators` hold sums between steps, `derivatives` take gradients, `datasets`, `images`
and `tensors` read data, `operations` are what `keras.ops` lacks.

`backend` says which backend it is. A verb that differs between them is written once in each of
`tensorflow`, `jax` and `torch`; the module of its name here says what it has to do and picks one.
TensorFlow also reads `tf.data`, images and TensorBoard's files for the others, and is imported when
one of these is asked for.
"""
