"""The page of a playground, by Gradio: a sample on the left, what all say of it on the right."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keras_nns.errors import ModelError, SelectionError
from keras_nns.playing.looks import Look

_CANVAS = 280
_MOST_UNITS = 512
_SHOWN = 224
"""Pixels that a sample is shown on."""

_STYLE = """
.units { display: flex; flex-wrap: wrap; gap: 2px; margin: 2px 0 10px; }
.units span { width: 12px; height: 12px; border-radius: 2px; box-sizing: border-box;
  border: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
.units span.kept { border: 2px solid #0072b2; }
.answers table { width: 100%; border-collapse: collapse; }
.answers th, .answers td { text-align: left; padding: 3px 8px; }
.answers { overflow-x: auto; }
"""


class Game(Protocol):
    """What is played with: a `Playground`."""

    parent: Any
    label_names: tuple[str, ...]
    samples: NDArray[Any] | None
    labels: NDArray[Any] | None
    steps: int

    @property
    def names(self) -> Sequence[str]:
        """What the networks are for."""

    def look(self, sample: Any, *, step: int = 0) -> Look:
        """Show a sample to all."""


def launch(game: Game, *, port: int | None, open_browser: bool, wait: bool) -> Any:
    """Serve the page on this machine, as `Playground.launch` says.

    Raises:
        ModelError: Gradio is not installed.
        SelectionError: There is nothing to show: no samples, and inputs that cannot be drawn.
    """
    gradio = _gradio()
    blocks = blocks_of(game)
    blocks.launch(
        server_name="127.0.0.1",
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=not wait,
        quiet=not wait,
        share=False,
        css=_STYLE,
        # Its own fonts come from a server elsewhere.
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        footer_links=[],
    )
    return blocks


def _gradio() -> Any:
    # It would tell its makers of every start.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ModelError(
            "The page needs Gradio: pip install 'keras-nns[play]'. `look` shows the same as a "
            "table without it."
        ) from error


def blocks_of(game: Game) -> Any:
    """Lay out the page.

    Args:
        game: What is played with.

    Returns:
        A `gradio.Blocks`.
    """
    gradio = _gradio()
    picture = picture_of(game)
    if picture is None and game.samples is None:
        raise SelectionError(
            "The model's inputs are no images, so that none can be drawn. Pass samples: "
            "play(model, networks, (x, y)), or keras-nns play … --samples DATA."
        )
    with gradio.Blocks(title=f"{game.parent.name}, played with", analytics_enabled=False) as page:
        gradio.Markdown(
            f"# {game.parent.name}\nEvery network was cut from it. Choose or draw a sample, and "
            "move the size."
        )
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                current = gradio.State(None if game.samples is None else 0)
                inputs = _inputs(gradio, game, picture)
                shown = gradio.Image(
                    label="what the networks see", interactive=False, height=_SHOWN,
                    visible=picture is not None, buttons=[],
                )  # fmt: skip
            with gradio.Column(scale=2, min_width=320):
                size = gradio.Slider(
                    0, max(game.steps - 1, 1), value=0, step=1, interactive=game.steps > 1,
                    label="size of the networks: from the smallest to the largest",
                )  # fmt: skip
                said = gradio.Markdown()
                answers = gradio.HTML(elem_classes="answers")
                which = gradio.Dropdown(
                    list(game.names), value=game.names[0], label="units that the network for … has"
                )
                units = gradio.HTML()

        def show(current: Any, step: float, name: str) -> tuple[Any, str, str, str]:
            sample, known = current, ""
            if isinstance(current, int) and game.samples is not None:
                sample, known = game.samples[current], _truth(game, current)
            if sample is None:
                return None, "Draw something.", "", ""
            look = game.look(sample, step=int(step))
            seen = None if picture is None else picture.pixels(sample)
            said = f"**The parent says {look.answer}.** {known}"
            return seen, said, replace(look.to_table(), caption="").to_html(), fired(look, name)

        out = [shown, said, answers, units]
        for component, read in inputs:
            component.change(read, component, current, show_progress="hidden").then(
                show, [current, size, which], out, show_progress="hidden"
            )
        for component in (size, which):
            component.change(show, [current, size, which], out, show_progress="hidden")
        page.load(show, [current, size, which], out)
    return page


def _inputs(
    gradio: Any, game: Game, picture: Picture | None
) -> list[tuple[Any, Callable[[Any], Any]]]:
    """Return what a sample comes from, each with how it is read."""
    found: list[tuple[Any, Callable[[Any], Any]]] = []
    if game.samples is not None:
        last = len(game.samples) - 1
        slider = gradio.Slider(0, max(last, 1), value=0, step=1, label="sample")
        found.append((slider, lambda number: min(int(number), last)))
    if picture is not None:
        if picture.channels == 1:
            pad = gradio.Sketchpad(
                label="draw",
                canvas_size=(_CANVAS, _CANVAS),
                brush=gradio.Brush(default_size=24, colors=["#888888"], color_mode="fixed"),
                layers=False,
                placeholder="take the brush on the left, then draw",
                buttons=[],
            )
        else:
            pad = gradio.Image(label="picture", sources=["upload", "webcam", "clipboard"])
        found.append((pad, picture.sample))
    return found


class Picture:
    """How pixels become a sample, and a sample pixels.

    Args:
        height: Of a sample.
        width: Of a sample.
        channels: 1 or 3; 1 also where samples have no axis for them.
        axis: Whether they have one.
        low: What black is.
        high: What white is.
    """

    def __init__(
        self, height: int, width: int, channels: int, *, axis: bool, low: float, high: float
    ) -> None:
        self.size, self.channels, self._axis = (width, height), channels, axis
        self._low, self._high = low, high

    def sample(self, drawn: Any) -> NDArray[np.float32] | None:
        """Turn what was drawn or loaded into a sample; None where there is nothing.

        Args:
            drawn: What Gradio hands on: an image `(height, width, channels)` of bytes; or of a
                sketch a dictionary with `"layers"` of four channels, of which opacity is ink.
        """
        if isinstance(drawn, dict):
            layers = [np.asarray(layer)[..., 3] for layer in drawn["layers"] or ()]
            if not any(ink.any() for ink in layers):
                return None
            image = Image.fromarray(np.max(layers, axis=0))
        elif drawn is None:
            return None
        else:
            image = Image.fromarray(np.asarray(drawn)).convert("L" if self.channels == 1 else "RGB")
        small = np.asarray(image.resize(self.size, Image.Resampling.BOX), np.float32) / 255
        values = (self._low + small * (self._high - self._low)).astype(np.float32)
        return values[..., None] if self.channels == 1 and self._axis else values

    def pixels(self, sample: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn a sample into an image of bytes, enlarged so that pixels are seen."""
        values = np.asarray(sample, np.float64)
        values = values[..., 0] if self.channels == 1 and self._axis else values
        share = np.clip((values - self._low) / ((self._high - self._low) or 1), 0, 1)
        image = Image.fromarray(np.rint(255 * share).astype(np.uint8))
        times = max(1, _SHOWN // max(self.size))
        large = (self.size[0] * times, self.size[1] * times)
        return np.asarray(image.resize(large, Image.Resampling.NEAREST))


def picture_of(game: Game) -> Picture | None:
    """Say how samples are pictures; None where they are not.

    White is the largest number of the samples, or 1 without any.
    """
    shape = tuple(game.parent.inputs[0].shape[1:])
    axis = len(shape) == 3
    if not (axis and shape[2] in (1, 3)) and len(shape) != 2:
        return None
    if game.samples is not None:
        x = np.asarray(game.samples)
        height, width = x.shape[1:3]
        low, high = min(0.0, float(x.min())), float(x.max())
    else:
        if None in shape[:2]:
            return None
        (height, width), low, high = shape[:2], 0.0, 1.0
    if len(shape) == 2 and height != width:  # Steps with features have the same rank.
        return None
    channels = shape[2] if axis else 1
    return Picture(height, width, channels, axis=axis, low=low, high=high)


def fired(look: Look, name: str) -> str:
    """Draw the units of every layer: the more they give, the brighter; framed where they are kept.

    Args:
        look: What was seen.
        name: The network whose units are framed.

    Returns:
        HTML.
    """
    parts = []
    for layer, values in look.units.items():
        strength = np.abs(np.nan_to_num(values)) / (float(np.abs(values).max()) or 1.0)
        kept = look.kept[name][layer]
        squares = "".join(
            f'<span class="{"kept" if kept[i] else "left"}" '
            f'style="background: rgba(230, 159, 0, {strength[i]:.2f})" '
            f'title="unit {i}: {values[i]:.3g}{", kept" if kept[i] else ""}"></span>'
            for i in range(min(len(values), _MOST_UNITS))
        )
        firing = int((strength > 0).sum())
        told = (
            f"{layer}: {firing} of {len(values)} units fire; the network for {name} has "
            f"{int(kept.sum())}, of which {int((kept & (strength > 0)).sum())} fire"
        )
        if len(values) > _MOST_UNITS:
            told += f" (the first {_MOST_UNITS} are drawn)"
        told = html.escape(told)
        parts.append(f'<div>{told}</div><div class="units" role="img" aria-label="{told}">')
        parts.append(f"{squares}</div>")
    return "".join(parts)


def _truth(game: Game, number: int) -> str:
    if game.labels is None:
        return ""
    label = game.labels[number]
    if np.ndim(label):
        named = [n for n, yes in zip(game.label_names, label, strict=True) if yes]
        return f"It is {', '.join(named) or 'none of them'}."
    return f"It is {game.label_names[int(label)]}."
