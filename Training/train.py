"""Runs a recipe: every step from studies to results; a run that was stopped is resumed.

    python Training/train.py smoke --data DIR --out runs/mine
    python Training/train.py smoke --data DIR --out runs/mine --only denoiser --set denoiser.steps=100
    accelerate launch --multi_gpu Training/train.py paper --data DIR --out runs/mine --only denoiser

Steps run in order, each in its own process; finished ones are not run again. simulate.py, preprocess.py,
encode.py, generate.py, evaluate.py and tables.py run only those steps of a recipe.
"""

import sys
from pathlib import Path

from kinds import KINDS

from xray2ctpa_core.cli.recipe import Runner

HERE = Path(__file__).resolve().parent


def main(modules: tuple[str, ...] = (), doc: str | None = __doc__) -> int:
    """The command; with ``modules`` only the steps of these modules."""
    return Runner(HERE, KINDS, modules).main(doc)


if __name__ == "__main__":
    sys.exit(main())
