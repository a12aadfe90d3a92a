"""result.json: read, in sentences, as attributes of nodes and as rows of a table; needs no slicer."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import RESULT_SCHEMA_VERSION
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.wording import counted, score_sentence, second_opinion_sentence, unreliable

#: Attribute of every node of a result <- where its value stands in result.json.
ATTRIBUTES = {
    "XRay2CTPA.Notice": ("notice",),
    "XRay2CTPA.Input": ("input", "name"),
    "XRay2CTPA.InputSHA256": ("input", "sha256"),
    "XRay2CTPA.Bundle": ("bundle", "name"),
    "XRay2CTPA.BundleVersion": ("bundle", "version"),
    "XRay2CTPA.BundleSHA256": ("bundle", "sha256"),
    "XRay2CTPA.BundleIsDemonstration": ("bundle", "is_demonstration"),
    "XRay2CTPA.Seed": ("sampling", "seed"),
    "XRay2CTPA.Samples": ("sampling", "samples"),
    "XRay2CTPA.Steps": ("sampling", "steps"),
    "XRay2CTPA.Scheduler": ("sampling", "scheduler"),
    "XRay2CTPA.Device": ("sampling", "device"),
    "XRay2CTPA.Precision": ("sampling", "precision"),
    "XRay2CTPA.PEProbability": ("pe", "probability"),
    "XRay2CTPA.PEThreshold": ("pe", "threshold"),
    "XRay2CTPA.PECalibrated": ("pe", "calibrated"),
}

#: Attribute of every node of a result whose PE scores mean nothing: why, as a sentence.
UNRELIABLE_ATTRIBUTE = "XRay2CTPA.PEUnreliable"

#: Names in brackets (of collections, of people) are read in the table of the whole record.
_BRACKETS = re.compile(r" \([^()]*\)")


def read_record(folder: Path) -> dict[str, Any]:
    """The object in ``folder``/result.json; raises InputError if there is none or of another schema."""
    path = Path(folder) / "result.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a result folder with result.json, got {folder}: {error}.",
            "Name a folder that `xray2ctpa generate` wrote.",
        ) from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != RESULT_SCHEMA_VERSION:
        raise InputError(
            f"Expected schema_version {RESULT_SCHEMA_VERSION!r} in {path}, got {version!r}.",
            "Generate the result again with this version.",
        )
    return record


def score_sentences(record: Mapping[str, Any]) -> list[str]:
    """The scores of a result, for people: the volume's, each sample's, the second opinion."""
    pe = record["pe"]
    lines = [score_sentence(pe["probability"], pe["threshold"], bool(pe["calibrated"])) + "."]
    samples = pe.get("per_sample", [])
    if len(samples) > 1:
        each = ", ".join(f"{score:.2f}" for score in samples)
        ends = f"from {min(samples):.2f} to {max(samples):.2f}"
        lines.append(f"Over {len(samples)} samples the score runs {ends}: {each}.")
    if "second_opinion" in pe:
        opinion = pe["second_opinion"]
        drawn = " Its Grad-CAM can be laid over the radiograph." if opinion.get("gradcam") else ""
        lines.append(second_opinion_sentence(opinion) + drawn)
    return lines


def sentences(record: Mapping[str, Any]) -> list[str]:
    """What a result says, for people: the score first, why it means nothing if that is so, then what it
    means and where it comes from."""
    score, *others = score_sentences(record)
    reason = unreliable(record["pe"])
    caution = "The score rates this generated volume, not the patient: a hypothesis, never a diagnosis."
    if record["pe"]["probability"] is None:
        caution = "This generated volume is a hypothesis, never a diagnosis."
    warnings = [line for line in record.get("gate", {}).get("warnings", []) if line != reason]
    return [score, *([reason] if reason else []), *others, caution, *provenance(record), *warnings]


def provenance(record: Mapping[str, Any]) -> list[str]:
    """The part of ``sentences`` that says where the volume comes from: its model, its sampling."""
    bundle, sampling = record["bundle"], record["sampling"]
    kind = " (a demonstration)" if bundle["is_demonstration"] else ""
    trained_on = _BRACKETS.sub("", bundle.get("trained_on", ""))
    trained = f", trained on {trained_on}" if trained_on else ""
    return [
        f"Model {bundle['name']} {bundle['version']}{kind}{trained}.",
        f"{sampling['scheduler']}, {counted(sampling['steps'], 'step')}, seed {sampling['seed']}.",
    ]


def record_attributes(record: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The node attributes of a result, as text; raises InputError where ``record`` lacks one.

    Args:
        record: result.json.
        folder: where it lies, for the error.
    """
    attributes = {}
    for name, keys in ATTRIBUTES.items():
        value: Any = record
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise InputError(
                    f"Expected {'.'.join(keys)} in {folder / 'result.json'}, got none.",
                    "Generate the result again.",
                )
            value = value[key]
        attributes[name] = value if isinstance(value, str) else json.dumps(value)
    reason = unreliable(record["pe"])
    return attributes | ({UNRELIABLE_ATTRIBUTE: reason} if reason else {})


def record_rows(value: Any, path: str = "") -> list[tuple[str, str]]:
    """(path, text) of every leaf of a JSON value; a list is one leaf."""
    if isinstance(value, dict):
        return [
            row for key, part in value.items() for row in record_rows(part, f"{path}.{key}" if path else key)
        ]
    return [(path, value if isinstance(value, str) else json.dumps(value))]
