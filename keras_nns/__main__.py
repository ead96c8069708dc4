"""`python -m keras_nns`."""

import sys

from keras_nns.cli import main

if __name__ == "__main__":
    sys.exit(main())
