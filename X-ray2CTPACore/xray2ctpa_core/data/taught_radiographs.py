"""The list of real radiographs that a bundle was trained on, so that evaluations leave them out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from xray2ctpa_core import config
from xray2ctpa_core.errors import REINSTALL_HINT, BundleError

#: Optional file of a bundle: `TaughtRadiographs`.
REAL_RADIOGRAPHS_FILE = "real_films.json"


@dataclass(frozen=True)
class TaughtRadiographs:
    """The real radiographs from which a bundle's radiograph encoder learned the frequency of signs.

    Attributes:
        source: name of their source, as its terms of use require.
        sha256: SHA-256 of each radiograph's file, by the file's name.
    """

    source: str
    sha256: dict[str, str]

    def __str__(self) -> str:
        return f"{len(self.sha256)} real radiographs without labels{self.source and f' ({self.source})'}"

    def save(self, folder: Path) -> None:
        """Writes ``folder``/real_films.json."""
        config.write_json(folder / REAL_RADIOGRAPHS_FILE, asdict(self), indent=1)

    @classmethod
    def load(cls, folder: Path) -> "TaughtRadiographs | None":
        """Reads the list of a bundle, or of the run of the stage; None where there is none.

        Raises:
            BundleError: the file holds something else.
        """
        path = folder / REAL_RADIOGRAPHS_FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            radiographs = cls(**values)
            is_one = isinstance(radiographs.source, str) and all(
                map(str.isalnum, radiographs.sha256.values())
            )
        except (OSError, AttributeError, TypeError, ValueError) as error:
            raise BundleError(f"Cannot read {path}: {error}.", REINSTALL_HINT) from error
        if not is_one:
            raise BundleError(
                f"{path} must name radiographs by their SHA-256, got something else.", REINSTALL_HINT
            )
        return radiographs
