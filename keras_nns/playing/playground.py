"""A model and the networks cut from it are shown a sample, and all say what they take it for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.graph.tracing import trace
from keras_nns.judgement.question import Question, ask, reply, whole_question
from keras_nns.observation.forward import Forward
from keras_nns.observation.probing import Probe, taps_of
from keras_nns.plans.units import Layout, mask_of
from keras_nns.playing import page
from keras_nns.playing.looks import Look, Said
from keras_nns.playing.players import Network, Player, read_player

_DASH = "–"


class Playground:
    """A model beside the networks that were cut from it. Made by `play`.

    Attributes:
        parent: The model.
        label_names: Names of all its labels.
        samples: Samples to show, `(samples, …)`, or None.
        labels: What they are, or None.
        steps: How many sizes there are of the label that has the most.

    Example:
        >>> game = nns.play(model, [three, eight], (x, y))
        >>> game.names, game.steps
        (('3', '8'), 1)
    """

    def __init__(
        self,
        parent: keras.Model,
        networks: Sequence[Network],
        samples: Any = None,
        *,
        label_names: Sequence[str] | None = None,
        unsafe: bool = False,
    ) -> None:
        graph = trace(parent)
        if len(graph.outputs) != 1 or len(graph.model.inputs) != 1:
            raise ModelError(
                f"Model {parent.name!r} has {len(graph.model.inputs)} inputs and "
                f"{len(graph.outputs)} outputs. Only a model of one input and one output can be "
                "played with."
            )
        if not networks:
            raise SelectionError(
                "There is no network to stand beside the model. Pass some that were cut from it, "
                "for instance by extract."
            )
        self.parent = parent
        self._kind = graph.outputs[0].kind
        count = int(parent.outputs[0].shape[-1])
        count = 2 if count == 1 else count
        self.samples, self.labels, told = _samples(parent, samples, label_names)
        names = told or tuple(str(i) for i in range(count))
        players = [read_player(one, graph, names, unsafe=unsafe) for one in networks]
        if told is None:
            known = [p.lineage.plan.label_names for p in players if p.lineage.plan.label_names]
            names = known[0] if known else names
        if len(names) != count:
            raise SelectionError(
                f"The model answers {count} labels and {len(names)} names were given. Pass one "
                "name for each."
            )
        self.label_names = tuple(names)
        self._sizes: dict[str, list[Player]] = {}
        for player in sorted(players, key=lambda p: (len(p.plan.labels), p.plan.labels)):
            self._sizes.setdefault(player.name, []).append(player)
        for sizes in self._sizes.values():
            sizes.sort(key=lambda player: (player.units, player.weight))
        self.steps = max(map(len, self._sizes.values()))
        self._forward = Forward(parent, None)
        taps = taps_of(graph)
        self._taps = taps
        self._probe = Probe(graph, taps)
        self._layout: Layout = graph.layout

    @property
    def names(self) -> tuple[str, ...]:
        """What the networks are for: names of labels, as `Look.said` has them."""
        return tuple(self._sizes)

    def look(self, sample: Any, *, step: int = 0) -> Look:
        """Show a sample to the parent and to one network for each label.

        Args:
            sample: One sample, of the shape that the model takes without its batch axis.
            step: Which size, 0 for the smallest of each label; the largest where there are fewer.

        Returns:
            What they say. `print` shows it as a table.

        Raises:
            DataError: The sample has another shape, or holds NaN.
        """
        x = np.asarray(sample)
        shape = tuple(self.parent.inputs[0].shape[1:])
        if len(x.shape) != len(shape) or any(
            b not in (None, a) for a, b in zip(x.shape, shape, strict=True)
        ):
            raise DataError(f"A sample has the shape {shape}. Received one of {x.shape}.")
        if x.dtype.kind in "fc" and not np.isfinite(x).all():
            raise DataError("The sample holds NaN or infinity.")
        batch = x[None]
        outputs = np.asarray(self._forward(batch), dtype=np.float32)
        players = [sizes[min(step, len(sizes) - 1)] for sizes in self._sizes.values()]
        values = self._probe(batch)
        row = outputs[0] if outputs.shape[1] > 1 else np.append(1 - outputs[0], outputs[0])
        return Look(
            answer=self._decided(whole_question(self.label_names), outputs)[0],
            scores={n: float(v) for n, v in zip(self.label_names, row, strict=True)},
            said=tuple(self._said(one, batch, outputs) for one in players),
            units={name: np.asarray(value)[0] for name, value in values.items()},
            kept={one.name: self._kept(one) for one in players},
        )

    def launch(
        self, *, port: int | None = None, open_browser: bool = False, wait: bool = True
    ) -> Any:
        """Open a page on which samples are drawn or chosen, and sizes switched.

        It is served on this machine alone, and loads nothing from elsewhere.

        Args:
            port: The port of 127.0.0.1; None takes the first free one from 7860 on.
            open_browser: Whether the browser is opened on it.
            wait: Whether to return only when it is stopped by Ctrl-C.

        Returns:
            The `gradio.Blocks` of the page; `close()` ends it.

        Raises:
            ModelError: Gradio is not installed; the message says how to get it.
        """
        return page.launch(self, port=port, open_browser=open_browser, wait=wait)

    def _said(self, one: Player, batch: NDArray[Any], parents: NDArray[np.float32]) -> Said:
        answer, sure = self._decided(one.question, one.answers(batch))
        asked = ask(one.question, parents, self._kind)
        theirs, _ = self._decided(one.question, asked)
        return Said(one.name, one.file, one.size, answer, sure, theirs)

    def _decided(
        self, question: Question, outputs: NDArray[np.float32]
    ) -> tuple[str, float | None]:
        """Return the answers that are decided for, and how probable they are."""
        # Heads that sum over labels give probabilities, whatever the parent gives.
        certain = self._kind != "linear" or question.head in ("binary", "other")
        several = self._kind == "sigmoid" and len(self.label_names) > 2
        made = reply(question, outputs, multi_label=several, threshold=0.5 if certain else 0.0)
        chosen = np.flatnonzero(made.decided[0])
        said = ", ".join(question.answers[i] for i in chosen) or "none of them"
        if not certain or made.probabilities is None or len(chosen) != 1:
            return said, None
        return said, float(np.clip(made.probabilities[0, chosen[0]], 0, 1))

    def _kept(self, one: Player) -> dict[str, NDArray[np.bool_]]:
        found = {}
        for tap in self._taps:
            group, member = self._layout.of_layer(tap.name)
            kept = mask_of(one.plan.kept[group.name], one.plan.sizes[group.name])
            found[tap.name] = kept[np.asarray(member.units)]
        return found


def _samples(
    parent: keras.Model, samples: Any, label_names: Sequence[str] | None
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, tuple[str, ...] | None]:
    """Return samples in memory, what they are, and the names of labels that are known."""
    told = None if label_names is None else tuple(map(str, label_names))
    if samples is None:
        return None, None, told
    x, y = samples if isinstance(samples, tuple) else (samples, None)
    if y is None:
        return np.asarray(x), None, told
    batches = as_batches(x, y, model=parent, label_names=label_names)
    labels = np.concatenate([batch.labels for batch in batches])
    return np.asarray(x), labels, batches.label_names


def play(
    parent: keras.Model,
    networks: Sequence[Network],
    samples: Any = None,
    *,
    label_names: Sequence[str] | None = None,
    unsafe: bool = False,
) -> Playground:
    """Put networks beside the model they were cut from, to be asked about one sample after another.

    Args:
        parent: A Sequential or functional model of one input and one output.
        networks: What was cut from it: models, and paths of `.keras` or `.tflite` files. Of one
            label there may be several sizes.
        samples: Samples to choose from, `(x, y)` or `x`; None where they are drawn or loaded.
        label_names: Name of each of the parent's labels; by default as `samples` or the networks
            have them.
        unsafe: Whether code in `.keras` files may run.

    Returns:
        A playground: `look(sample)` asks all of them, `launch()` opens a page for it.

    Raises:
        ModelError: The model has several ends, or a network no record of a parent.
        PlanError: A network was cut from another model.
        SelectionError: There is no network, or names are not as many as labels.
        DataError: The samples do not fit the model.
        FileError: A file is missing or damaged.

    Example:
        >>> game = nns.play(model, [three], (x, y))
        >>> game.look(x[0]).said[0].parent
        'not 3'
    """
    return Playground(parent, networks, samples, label_names=label_names, unsafe=unsafe)
