"""Heat maps in a notebook that follow the training."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.reporting import image_files, plots


class LiveHeatmaps:
    """One picture for each layer, put in the place of the last one.

    Args:
        layers: Names of watched layers.

    Raises:
        SelectionError: This is no notebook.
    """

    def __init__(self, layers: str | Sequence[str]) -> None:
        self._layers = [layers] if isinstance(layers, str) else list(layers)
        self._shown: dict[str, Any] = {}
        shell = _ipython()
        if shell is None or shell.get_ipython() is None:
            raise SelectionError(
                "live=… shows pictures in a notebook, and this is none. Use log_dir=… for "
                "TensorBoard, or nns.plots.activity_heatmap(monitor.activity, layer)."
            )

    def begin(self, watched: Sequence[str]) -> None:
        """Get ready for a training: its pictures stand below those of the last.

        Args:
            watched: Names of the layers that are watched.

        Raises:
            SelectionError: A layer is none of them.
        """
        missing = [name for name in self._layers if name not in watched]
        if missing:
            raise SelectionError(
                f"live=… names layers that are not watched: {missing}. Expected some of "
                f"{list(watched)}."
            )
        self._shown = {}

    def show(self, activity: Activity, epoch: int) -> None:
        """Show an epoch.

        Args:
            activity: What was seen in it.
            epoch: Its number, from 0.
        """
        display = import_module("IPython.display")
        for layer in self._layers:
            figure = plots.activity_heatmap(activity, layer)
            figure.suptitle(f"epoch {epoch + 1}")
            picture = display.Image(data=image_files.rendered(figure))
            if layer in self._shown:
                self._shown[layer].update(picture)
            else:
                self._shown[layer] = display.display(picture, display_id=True)


def _ipython() -> Any:
    try:
        return import_module("IPython")
    except ImportError:
        return None
