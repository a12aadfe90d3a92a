"""Simulates the virtual patients of a recipe: python Training/simulate.py default"""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main(("steps.simulate",), __doc__))
