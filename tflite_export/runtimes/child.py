"""The program of the child processes: a runtime, asked over a pipe.

TFLite Micro checks little: an arena of a few bytes or an unlucky file ends the process it runs in.
LiteRT's compiled models print whenever one of them is made or goes, and its kernels end the process
on some files that TensorFlow writes. So each runs in a process of its own, which this module is,
started by `process`. It imports nothing of the package.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

import numpy as np


class Micro:
    """A file in TFLite Micro's interpreter.

    Args:
        flat: The flatbuffer.
        arena: Bytes of the arena.
    """

    def __init__(self, flat: bytes, arena: int) -> None:
        from tflite_micro import runtime  # noqa: PLC0415

        graph = runtime.schema_fb.Model.GetRootAsModel(flat, 0).Subgraphs(0)
        self._outputs = graph.OutputsLength()
        self._interpreter = runtime.Interpreter.from_bytes(flat, arena_size=arena)
        # Beyond the last one, the interpreter ends the process. The arena is not cleared, and
        # chance numbers are no positions in a table: the first run is one of zeros.
        ends = [self._interpreter.get_input_details(n) for n in range(graph.InputsLength())]
        self.run([np.zeros(one["shape"], one["dtype"]) for one in ends])

    def run(self, values: list[Any]) -> list[Any]:
        """Answer one batch, as stored, in the order of the graph."""
        for index, array in enumerate(values):
            self._interpreter.set_input(array, index)
        self._interpreter.invoke()
        return [self._interpreter.get_output(index) for index in range(self._outputs)]

    def print_allocations(self) -> None:
        """Write to the standard error what lies in the arena."""
        self._interpreter.print_allocations()


class Compiled:
    """A file as LiteRT's `CompiledModel`, on the CPU.

    Args:
        flat: The flatbuffer.
        inputs: Names of the signature's inputs, in the order of the graph.
        outputs: Type and shape of each of its outputs by name, in that order.
    """

    def __init__(
        self, flat: bytes, inputs: list[str], outputs: dict[str, tuple[str, tuple[int, ...]]]
    ) -> None:
        from ai_edge_litert.compiled_model import CompiledModel  # noqa: PLC0415

        self._model = CompiledModel.from_buffer(flat)
        (self._key,) = self._model.get_signature_list()
        self._inputs = {
            name: self._model.create_input_buffer_by_name(self._key, name) for name in inputs
        }
        self._outputs = {
            name: self._model.create_output_buffer_by_name(self._key, name) for name in outputs
        }
        self._ends = outputs

    def run(self, values: list[Any]) -> list[Any]:
        """Answer one batch, as stored, in the order of the graph."""
        for buffer, array in zip(self._inputs.values(), values, strict=True):
            buffer.write(array)
        self._model.run_by_name(self._key, self._inputs, self._outputs)
        return [
            self._outputs[name].read(int(np.prod(shape)), np.dtype(dtype)).reshape(shape)
            for name, (dtype, shape) in self._ends.items()
        ]


class Plain:
    """A file in LiteRT's interpreter, with the kernels that it takes by itself.

    Args:
        flat: The flatbuffer.
    """

    def __init__(self, flat: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        self._interpreter = Interpreter(model_content=flat, num_threads=1)
        self._interpreter.allocate_tensors()


def serve(kind: type[Micro] | type[Compiled] | type[Plain]) -> None:
    """Answer until nobody asks any more."""
    replies = os.fdopen(os.dup(1), "wb")
    # What native code prints must not get between the answers.
    os.dup2(2, 1)
    loaded: Any = None
    while True:
        try:
            verb, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        reply: Any = None
        done = True
        try:
            if verb == "load":
                # The one before goes first: its arena may be as large.
                loaded = None
                loaded = kind(*arguments)
            else:
                reply = getattr(loaded, verb)(*arguments)
        except Exception as error:
            done, reply = False, f"{type(error).__name__}: {error}"
        pickle.dump((done, reply), replies)
        replies.flush()


if __name__ == "__main__":
    serve({"micro": Micro, "compiled": Compiled, "plain": Plain}[sys.argv[1]])
