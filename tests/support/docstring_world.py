"""What the examples of docstrings have at hand: each word is made when an example first uses it.

`docs/site/pages.py` tells readers of the reference what each word stands for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras
import litert_js
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import keras_nns as nns
import tflite_export

layers = keras.layers
MODULES = {"nns": nns, "tflite_export": tflite_export, "keras": keras, "np": np}


def world(source: str, folder: Path) -> dict[str, Any]:
    """Return the words that an example uses, by name.

    Args:
        source: The code of the example.
        folder: Where it runs, and where photos or LiteRT.js lie if it reads them.
    """
    nodes = list(ast.walk(ast.parse(source)))
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    if any(isinstance(node, ast.Constant) and node.value == "photos" for node in nodes):
        take_photos(folder)
    if any(isinstance(node, ast.Attribute) and node.attr == "to_web" for node in nodes):
        litert_js.lay_out(folder / "node_modules" / "@litertjs" / "core")
    found = MODULES | {name: WORDS[name]() for name in sorted(named & WORDS.keys())}
    for node in nodes:
        # What an example trains is a model of its own: the others go on with the old one.
        if isinstance(node, ast.Attribute) and node.attr == "fit":
            name = getattr(node.value, "id", "")
            if isinstance(found.get(name), keras.Model):
                found[name] = copied(found[name])
    return found


def copied(model: keras.Model) -> keras.Model:
    """Return a model with the same weights and compile settings."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.compile_from_config(model.get_compile_config())
    return copy


def digits(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return some of scikit-learn's digits, `(samples, 64)` in 0..1, and their labels."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[start:stop]
    return (x[order] / 16).astype("float32"), y[order]


@cache
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((64,), name="pixels"),
            layers.Dense(32, activation="relu", name="dense"),
            layers.Dense(16, activation="relu", name="dense_1"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(x(), y(), epochs=20, batch_size=64, verbose=0)
    return net


def x() -> np.ndarray:
    return digits(0, 1200)[0]


def y() -> np.ndarray:
    return digits(0, 1200)[1]


def x_test() -> np.ndarray:
    return digits(1200, 1797)[0]


def y_test() -> np.ndarray:
    return digits(1200, 1797)[1]


@cache
def parts() -> Any:
    return nns.split(x(), y())


@cache
def activity() -> Any:
    return nns.observe(model(), (x(), y()))


@cache
def plan() -> Any:
    return nns.select(activity(), labels=3)


@cache
def three() -> keras.Model:
    return nns.cut(model(), plan(), head="binary")


@cache
def eight() -> keras.Model:
    return nns.cut(model(), nns.select(activity(), labels=8), head="binary")


def tiny() -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(8, activation="relu", name="dense")
    answer = layers.Dense(2, activation="softmax", name="answer")
    return keras.Sequential([keras.Input((64,)), hidden, answer], name="tiny")


@cache
def flat() -> bytes:
    return tflite_export.convert(model(), quantize="int8", samples=x())


PETS = ("bird", "cat", "dog")


@cache
def pets() -> tuple[np.ndarray, np.ndarray]:
    """Return 150 little pictures of three kinds, 0 to 255, and their numbers."""
    random = np.random.default_rng(0)
    kinds = np.arange(150) % len(PETS)
    pictures = random.integers(0, 120, (150, 12, 12, 3))
    across = np.arange(12) % 4 < 2
    pictures[kinds == 0, :, :, 2] += 120
    pictures[kinds == 1] += np.where(across[:, None, None], 120, 0)
    pictures[kinds == 2] += np.where(across[None, :, None], 120, 0)
    return pictures.astype("uint8"), kinds


@cache
def resnet() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    stem = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(image)
    stem = layers.ReLU()(layers.BatchNormalization(name="norm")(stem))
    branch = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv_1")(stem)
    branch = layers.BatchNormalization(name="norm_1")(branch)
    pooled = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([stem, branch])))
    net = keras.Model(image, layers.Dense(3, activation="softmax", name="pet")(pooled), name="pets")
    net.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    pictures, kinds = pets()
    net.fit(pictures / 255, kinds, epochs=20, batch_size=20, verbose=0)
    return net


def take_photos(folder: Path) -> None:
    """Write pictures of pets to `photos/cat` and so on."""
    for number, (picture, kind) in enumerate(zip(*pets(), strict=True)):
        path = folder / "photos" / PETS[kind] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


@keras.saving.register_keras_serializable("docstrings")
class Block(layers.Layer):
    """A residual feed-forward block of a language model."""

    def build(self, shape: Any) -> None:
        self.up = layers.Dense(2 * shape[-1], "relu", name="up")
        self.down = layers.Dense(shape[-1], name="down")
        self.up.build(shape)
        self.down.build((*shape[:-1], 2 * shape[-1]))

    def call(self, given: Any) -> Any:
        return given + self.down(self.up(given))


def influence(given: Any, returned: Any) -> Any:
    return 1 + keras.losses.cosine_similarity(given, returned)[..., None]


@cache
def teach_block() -> None:
    """Let whole blocks leave, as those of KerasHub's decoders."""

    @nns.rules.register(Block)
    def block(site: Any) -> None:
        layer, whole = site.operation, site.make(1, "block")
        site.skips(whole, layer.down.kernel, layer.down.bias)
        site.watch(whole, layer, influence)
        site.protect_all("the blocks add to it")
        site.emit({})


@cache
def lm() -> keras.Model:
    teach_block()
    keras.utils.set_random_seed(0)
    tokens = keras.Input((12,), dtype="int32", name="token_ids")
    steps = layers.Embedding(40, 16, name="embedding")(tokens)
    for number in range(3):
        steps = Block(name=f"block_{number}")(steps)
    net = keras.Model(tokens, layers.Dense(40, activation="softmax", name="next")(steps), name="lm")
    net.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    net.fit(texts(), np.roll(texts(), -1, axis=1), epochs=3, verbose=0)
    return net


@keras.saving.register_keras_serializable("docstrings")
class Feed(layers.Layer):
    """A residual feed-forward block whose hidden units can leave."""

    def __init__(self, hidden: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, shape: Any) -> None:
        self.up = layers.Dense(self.hidden, "relu", name="up")
        self.down = layers.Dense(shape[-1], name="down")
        self.up.build(shape)
        self.down.build((*shape[:-1], self.hidden))

    def call(self, given: Any) -> Any:
        return given + self.down(self.up(given))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}


@cache
def teach_feed() -> None:
    """Let hidden units and whole blocks leave."""

    @nns.rules.register(Feed)
    def feed(site: Any) -> None:
        layer = site.operation
        units, whole = site.make(layer.hidden, "hidden"), site.make(1, "block")
        site.bind(layer.up.kernel, {1: units})
        site.bind(layer.up.bias, {0: units})
        site.bind(layer.down.kernel, {0: units}, silence=(0,))
        site.reads(units)
        site.watch(units, layer.down)
        site.skips(whole, layer.down.kernel, layer.down.bias)
        site.watch(whole, layer, influence)
        site.rebuild(lambda keep: (Feed, {**layer.get_config(), "hidden": keep.count(units)}))
        site.protect_all("the blocks add to it")
        site.emit({})


@cache
def writer() -> keras.Model:
    teach_feed()
    keras.utils.set_random_seed(0)
    tokens = keras.Input((12,), dtype="int32", name="token_ids")
    steps = layers.Embedding(40, 16, name="embedding")(tokens)
    for number in range(2):
        steps = Feed(32, name=f"block_{number}")(steps)
    head = layers.Dense(40, activation="softmax", name="next")
    net = keras.Model(tokens, head(steps), name="writer")
    net.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    net.fit(texts(), np.roll(texts(), -1, axis=1), epochs=3, verbose=0)
    return net


@cache
def llama() -> keras.Model:
    from keras_hub import models

    keras.utils.set_random_seed(0)
    backbone = models.LlamaBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=12,
    )
    return models.LlamaCausalLM(backbone, preprocessor=None)


def letters() -> Any:
    import tokenizers

    numbers = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz.,;:")}
    return tokenizers.Tokenizer(tokenizers.models.BPE(vocab=numbers, merges=[]))


def kinds() -> np.ndarray:
    return np.arange(200) % 2


@cache
def texts() -> np.ndarray:
    """Code counts up by one or two, prose down, over 40 tokens."""
    random = np.random.default_rng(0)
    steps = random.integers(1, 3, (200, 12)) * np.where(kinds() == 0, 1, -1)[:, None]
    return (random.integers(0, 40, (200, 1)) + np.cumsum(steps, axis=1)).astype("int32") % 40


WORDS: dict[str, Callable[[], Any]] = {
    word.__name__: word
    for word in (
        model, x, y, x_test, y_test, parts, activity, plan, three, eight, tiny, flat,
        resnet, lm, texts, kinds, writer, llama, letters,
    )
}  # fmt: skip
"""What makes each word."""
