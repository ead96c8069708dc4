"""`python -m tflite_export`."""

from __future__ import annotations

import sys

from tflite_export.cli import main

if __name__ == "__main__":
    sys.exit(main())
