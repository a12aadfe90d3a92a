"""Runs the generation steps of a recipe: python Training/generate.py paper --data DIR --out RUN"""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main(("steps.generate", "steps.predict"), __doc__))
