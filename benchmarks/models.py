"""Models that benchmarks share."""

from __future__ import annotations

import keras
from keras import layers


def mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(512, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def mnist_cnn() -> keras.Model:
    """421,642 parameters on 28x28 images in [0, 1]."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )


def trained_mnist_cnn(x, y, *, seed: int = 0, epochs: int = 2) -> keras.Model:
    """Train `mnist_cnn` on images in [0, 1]."""
    keras.utils.set_random_seed(seed)
    model = mnist_cnn()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    return model


def resnet20(classes: int = 10, width: int = 16) -> keras.Model:
    """He et al. 2015, section 4.2: three stages of three blocks on 32x32 images."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for stage in range(3):
        filters = width * 2**stage
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
            y = layers.BatchNormalization()(y)
            if strides == 2:
                x = layers.Conv2D(filters, 1, strides, padding="same", use_bias=False)(x)
                x = layers.BatchNormalization()(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))
