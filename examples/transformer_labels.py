"""Cut a transformer by attention heads and feed-forward units, one network per label.

    python examples/transformer_labels.py [--data FOLDER] [--quick] [--seed N]

Reads text messages (SMS spam); without the folder of real data sets, three kinds of text.
"""

import keras
from _label_study import study
from _sequence_data import messages, options
from keras import layers, ops

SYMBOLS, WIDTH, HEADS, HIDDEN = 2000, 32, 8, 64
given = options(__doc__)
keras.utils.set_random_seed(given.seed)
data = messages(given.data, quick=given.quick)
steps = data.x_train.shape[1]

inputs = keras.Input((steps,), dtype="int32", name="symbols")
positions = ops.cumsum(ops.ones_like(inputs), axis=1) - 1
x = layers.Embedding(SYMBOLS, WIDTH, name="symbol")(inputs)
x = x + layers.Embedding(steps, WIDTH, name="position")(positions)
y = layers.LayerNormalization()(x)
x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name="attention")(y, y)
y = layers.LayerNormalization()(x)
y = layers.Dense(HIDDEN, activation="gelu", name="hidden")(y)
x = x + layers.Dense(WIDTH, name="back")(y)
x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
outputs = layers.Dense(len(data.labels), activation="softmax", name="kind")(x)
model = keras.Model(inputs, outputs, name="transformer")
model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
epochs = 1 if given.quick else 4 if given.data else 12
model.fit(data.x_train, data.y_train, epochs=epochs, batch_size=64, verbose=0)
study(model, data, quick=given.quick)
