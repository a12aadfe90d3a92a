"""Encodes the studies of a recipe: python Training/encode.py paper --data DIR --out RUN"""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main(("steps.encode",), __doc__))
