"""``python -m xray2ctpa_core`` is the command ``xray2ctpa``."""

import sys

from xray2ctpa_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
