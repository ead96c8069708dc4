"""Cut recurrent networks label by label: a GRU on spoken vowels, an LSTM on text messages.

    python examples/recurrent_labels.py [--data FOLDER] [--quick] [--seed N]

Without the folder of real data sets: digits read row by row, and three kinds of text.
"""

import keras
from _label_study import study
from _sequence_data import Data, messages, options, vowels
from keras import layers

SYMBOLS = 2000
given = options(__doc__)


def trained(data: Data, model: keras.Model, epochs: int) -> keras.Model:
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    epochs = 1 if given.quick else epochs
    model.fit(data.x_train, data.y_train, epochs=epochs, batch_size=32, verbose=0)
    return model


# A number of labels, each a speaker: which of the 48 cell units does each need?
keras.utils.set_random_seed(given.seed)
data = vowels(given.data)
speakers = keras.Sequential(
    [
        keras.Input(data.x_train.shape[1:], name="steps"),
        layers.Masking(),  # what comes behind the end of an utterance is zero
        layers.GRU(48, name="cells"),
        layers.Dense(len(data.labels), activation="softmax", name="speaker"),
    ],
    name="gru",
)
study(trained(data, speakers, 60), data, quick=given.quick)

keras.utils.set_random_seed(given.seed)
data = messages(given.data, quick=given.quick)
readers = keras.Sequential(
    [
        keras.Input(data.x_train.shape[1:], dtype="int32", name="symbols"),
        layers.Embedding(SYMBOLS, 16, mask_zero=True, name="embedding"),
        layers.LSTM(32, name="cells"),
        layers.Dense(len(data.labels), activation="softmax", name="kind"),
    ],
    name="lstm",
)
study(trained(data, readers, 3 if given.data else 8), data, quick=given.quick)
