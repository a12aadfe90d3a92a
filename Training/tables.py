"""Fills the tables of a recipe: python Training/tables.py paper --data DIR --out RUN"""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main(("steps.tables", "steps.baseline_arms", "steps.bundle_arm", "steps.signs_arm"), __doc__))
