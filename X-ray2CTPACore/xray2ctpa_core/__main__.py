"""``python -m xray2ctpa_core`` is the command ``xray2ctpa``.

Python puts the working folder first into the search path of ``-m``, where a user's ``random.py`` would be
taken for Python's own. It is taken out here; the folder of this package comes last instead.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
        core = __file__.rpartition("xray2ctpa_core")[0].rstrip("/\\")
        if core not in sys.path:
            sys.path.append(core)
    from xray2ctpa_core.cli.main import main

    sys.exit(main())
