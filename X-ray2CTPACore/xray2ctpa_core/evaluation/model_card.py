"""The model card of a bundle: description, limits, and evaluation."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.constants import NOTICE
from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.evaluation.protocol import taught_people
from xray2ctpa_core.pipelines.bundle import BundleInfo

CARD_FILE = "README.md"
NO_REAL_RADIOGRAPHS_LIMIT = """No real radiograph was used in training. Real ones differ from computed ones
  at the lungs' bases and flanks, where the model may find fluid or opacities that are not there: do not rely
  on score and Grad-CAM of a real radiograph."""
REAL_RADIOGRAPHS_LIMIT = """From real radiographs the encoder learned only how often fluid and opacities
  occur, not in which patients: no reader's label was used. Do not rely on score and Grad-CAM of a real
  radiograph."""


def write_card(folder: Path, info: BundleInfo, report: str, command: str) -> None:
    """Writes the bundle's README.md.

    Args:
        folder: the bundle.
        info: its description.
        report: the evaluation in Markdown, with headings from the second level on.
        command: command that prints the report.
    """
    has_seen_real_radiographs = TaughtRadiographs.load(Path(folder)) is not None
    write_text_atomically(Path(folder) / CARD_FILE, card(info, report, command, has_seen_real_radiographs))


def card(info: BundleInfo, report: str, command: str, has_seen_real_radiographs: bool = False) -> str:
    """The card's text."""
    depth, height, width = info.geometry.grid
    sampling = info.sampling
    taught = taught_people(info)
    window = f"{info.hu_window[0]:.0f}..{info.hu_window[1]:.0f} HU"
    return f"""# {info.name} {info.version}

**{NOTICE}**

One frontal chest radiograph -> a synthetic CT pulmonary angiogram of {width} x {height} x {depth} voxels, a
score for pulmonary embolism (PE) and a Grad-CAM map of the regions that raise the score.

| | |
|---|---|
| licence | {info.licence} |
| trained on | {info.trained_on} |
| intended use | {info.intended_use} |
| conditioning | {info.conditioning} |
| HU window | {window}; values beyond it are clipped |
| sampler | {sampling.scheduler}, {sampling.steps} steps, initial noise times {sampling.temperature:g} |
| changes of the map into the atlas | times {sampling.map_spread:g} |
| alignment of a sample with the radiograph | {sampling.alignment} iterations |
| frontal frame of a radiograph without spacing | {info.geometry.mean_frame_side_mm} mm, the cohort mean |

## Limits

* All training patients are deformations of {_descent(taught)}, without implants and without other
  disease than the simulated signs; none is a child. On a real radiograph the outline of lungs, heart and
  diaphragm follows the radiograph; everything else is invented, and the lung vessels are those of the
  training patients, deformed.
* PE was simulated: clots are filling defects drawn into known arteries, and the radiographic signs were drawn
  independently at published rates. The score is no evidence of embolism in a real patient. The AUROC of the
  signs alone, the ceiling, stands beside every AUROC below: a model far above it would use an artefact.
* Findings that no training patient had (masses, pneumothorax, a collapsed lung) are not reproduced.
* Agreement of the volume's projection with the radiograph is a check and no quality: it can be optimised,
  and {"is: each sample is moved until they agree" if sampling.alignment else "is not here"}.
* A frontal radiograph does not show depth: the depth of a structure is a guess from the training patients.
* {REAL_RADIOGRAPHS_LIMIT if has_seen_real_radiographs else NO_REAL_RADIOGRAPHS_LIMIT}

## Measured

On people and virtual patients that were in no training, except real radiographs and pairs where they are
named. The command that prints this again:

```
{command}
```

{report}"""


def _descent(people: Collection[str]) -> str:
    """The people whose CTs the training patients are made from, as text."""
    return f"the CTs of {len(people)} people" if len(people) > 1 else "**one** person's CT"


def headline_metrics(summary: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an evaluation for bundle.json: the first bundle's means and AUROCs, by short names.

    Args:
        summary: of evaluation.run.evaluate.

    Returns:
        Means by method, on unseen people under "unseen people: METHOD"; AUROCs with their intervals.
    """
    bundle = next(iter(summary["bundles"]))
    metrics: dict[str, Any] = {}
    people = summary.get("people") or {"images": []}
    for prefix, rows in (("unseen people: ", people["images"]), ("", summary["images"])):
        for row in rows:
            if row["bundle"] == bundle:
                means = {k: round(v["estimate"], 4) for k, v in row.items() if isinstance(v, dict)}
                metrics[prefix + row["method"]] = means
    for row in summary["classification"]:
        if row["bundle"] == bundle:
            ends = {key: row["auroc"][key] for key in ("estimate", "lower", "upper")}
            metrics[f"AUROC, {row['score']}"] = {
                key: None if value is None else round(value, 3) for key, value in ends.items()
            }
    return metrics
