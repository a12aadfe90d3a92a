"""Evaluates the bundles of a recipe: python Training/evaluate.py virtual-pairs --out RUN"""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main(("steps.evaluate", "steps.reconstruction", "steps.segmentation"), __doc__))
