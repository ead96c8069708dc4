"""What runs in the process of the compiler: one file after another, each from and to a folder.

Started by `tflite_export.vela.compiler`. Of this package it imports nothing, so that it starts in
a third of a second.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
from typing import BinaryIO


def main() -> None:
    """Answer requests until nobody asks any more.

    A request is a list of arguments as Vela's own command line takes them, an answer the status it
    ended with, both pickled. All that is written meanwhile goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from ethosu.vela import vela  # noqa: PLC0415

    while (arguments := _next(sys.stdin.buffer)) is not None:
        try:
            status = vela.main(arguments)
        except SystemExit as ended:
            status = ended.code
        except Exception as error:
            # Whatever it says is an answer; the asker tells what became of the file.
            print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        pickle.dump(status, answers)
        answers.flush()


def _next(requests: BinaryIO) -> list[str] | None:
    try:
        arguments: list[str] = pickle.load(requests)
    except EOFError:
        return None
    return arguments


if __name__ == "__main__":
    main()
