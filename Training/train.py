"""Runs a recipe: every step from studies to results, going on where a run was stopped.

    python Training/train.py smoke --data DIR --out runs/mine
    python Training/train.py smoke --data DIR --out runs/mine --only denoiser --set denoiser.steps=100
    accelerate launch --multi_gpu Training/train.py paper --data DIR --out runs/mine --only denoiser

Steps run in order, each in a process of its own; one that is finished is not run again. simulate.py,
preprocess.py, encode.py and generate.py run those steps of a recipe alone.
"""

import sys
from pathlib import Path

from kinds import KINDS

from xray2ctpa_core.cli.recipe import Runner

HERE = Path(__file__).resolve().parent


def main(modules: tuple[str, ...] = (), doc: str | None = __doc__) -> int:
    """The command; ``modules`` runs their steps alone."""
    return Runner(HERE, KINDS, modules).main(doc)


if __name__ == "__main__":
    sys.exit(main())
