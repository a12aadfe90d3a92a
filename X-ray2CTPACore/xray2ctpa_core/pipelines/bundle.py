"""The description of a bundle (`bundle.json`), and the verification of the files that it lists."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_origin, get_type_hints

from xray2ctpa_core import config
from xray2ctpa_core.constants import (
    DEPTH_FRACTION,
    DETECTOR_TO_CENTRE_MM,
    MEAN_FRAME_SIDE_MM,
    SOURCE_TO_DETECTOR_MM,
)
from xray2ctpa_core.errors import REINSTALL_HINT, BundleError, ConfigError
from xray2ctpa_core.io.provenance import file_sha256

T = TypeVar("T")

BUNDLE_SCHEMA_VERSION = "1.0"
BUNDLE_FILE = "bundle.json"
#: File beside a converted checkpoint's weights that states their origin.
PROVENANCE_FILE = "conversion.json"
#: Optional entry of a bundle's metrics: quality against steps, with the presets that follow from it.
STEP_CURVE = "quality against steps"
#: Name in a bundle's metrics of the Grad-CAM heat that counts as 1 (explanation.gradcam).
FULL_HEAT = "full heat"
CONDITIONINGS = ("spatial", "global")
FRAMINGS = ("lungs", "whole")
#: Only these are ever loaded from a bundle: no pickle, no code.
ALLOWED_SUFFIXES = (".safetensors", ".json")
ALLOWED_NAMES = ("README.md",)


def _optional(value: Any) -> Any:
    """A field that earlier bundles lack: for them it is ``value``, and bundle.json states it only if it
    differs."""
    return field(default=value, metadata={"optional": True})


@dataclass(frozen=True)
class GeometryRule:
    """Where the generated voxels lie.

    Attributes:
        grid: (D, H, W) voxels of the output.
        mean_frame_side_mm: side of the frontal frame in mm of a radiograph without spacing.
        depth_fraction: antero-posterior extent over the frame's side.
        source_to_detector_mm, detector_to_centre_mm: radiographic geometry, for magnification.
        extent_mm: (z, y, x) of every volume, for bundles such as the papers', whose volumes do not depend on
            the radiograph's size; empty: z and x are the frame's side.
    """

    grid: tuple[int, ...]
    mean_frame_side_mm: float
    depth_fraction: float
    source_to_detector_mm: float
    detector_to_centre_mm: float
    extent_mm: tuple[float, ...] = _optional(())

    @classmethod
    def of_mean_patient(cls, grid: tuple[int, ...]) -> "GeometryRule":
        """That of virtual patients: the mean frame where a radiograph has no spacing."""
        return cls(grid, MEAN_FRAME_SIDE_MM, DEPTH_FRACTION, SOURCE_TO_DETECTOR_MM, DETECTOR_TO_CENTRE_MM)


@dataclass(frozen=True)
class CXRPreprocessing:
    """How a radiograph becomes network input.

    Attributes:
        frame_margin: side of the frame over the longer side of the lungs' box; 1 for the whole radiograph.
        frame_pixels: pixels along a side.
        normalisation: "equalised" (preprocessing.frame), or "standardised" by ``mean`` and ``std`` of greys
            in [0, 1].
        framing: of FRAMINGS: the lungs' square, or the whole radiograph.
        keep_aspect: whether a whole radiograph is centred in a black square instead of squashed.
    """

    frame_margin: float
    frame_pixels: int
    normalisation: str
    framing: str = _optional("lungs")
    mean: float = _optional(0.633)
    std: float = _optional(0.181)
    keep_aspect: bool = _optional(False)


@dataclass(frozen=True)
class SamplingDefaults:
    """Defaults of sampling, which a caller may override.

    Attributes:
        scheduler: name in diffusion.schedulers. steps: number of its steps. samples: number of samples.
        temperature: factor of the latents' initial noise, above 0 and at most 1. Below 1, samples are closer
            to their mean, with less grain and less spread.
        map_spread: factor of a sample's change of the expected map into the atlas, 0 to 1. Below 1, samples
            differ less from each other and from the expectation, but are as sharp.
        alignment: iterations by which a sample's map into the atlas is moved to agree with the radiograph
            (diffusion.alignment); 0 for none.
        guidance_scale: of classifier-free guidance by the denoiser's null conditioning; 1 for none.
        largest_latent: bound to which clean estimates are clipped in each step, as in the released code; 0
            for none.
    """

    scheduler: str
    steps: int
    samples: int
    temperature: float = 1.0
    map_spread: float = 1.0
    alignment: int = 0
    guidance_scale: float = _optional(1.0)
    largest_latent: float = _optional(0.0)


@dataclass(frozen=True)
class LatentStatistics:
    """Scaled latents are (latents - mean) / std, channel by channel: the mean and standard deviation over the
    training set, or the middle and half of a range (diffusion.latent_scaling)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class PEOperatingPoint:
    """Operating point of the PE classifier, on calibrated probabilities.

    Attributes:
        threshold: probability in (0, 1) from which a case counts as positive.
        platt_a, platt_b: p = sigmoid(a * logit + b) (Platt 1999); 1 and 0 leave the logit unchanged.
        calibrated: whether a and b were fitted on held-out patients.
    """

    threshold: float
    platt_a: float
    platt_b: float
    calibrated: bool


@dataclass(frozen=True)
class PresetSteps:
    """Numbers of sampling steps of the presets, chosen by measurement: 1 <= preview <= standard <=
    reference."""

    preview: int
    standard: int
    reference: int


@dataclass(frozen=True)
class BundleInfo:
    """Everything `bundle.json` holds, apart from its own digest.

    Attributes:
        hu_window: (lower, upper) HU that map to [-1, 1].
        conditioning: "spatial" or "global" (design, section 6).
        metrics: measured numbers by name, as printed in the model card.
        training: its training data; "people": names of the people whose CTs were used, whom evaluations
            leave out.
        files: SHA-256 of every other file of the bundle, by POSIX path inside the folder.
    """

    name: str
    version: str
    licence: str
    trained_on: str
    intended_use: str
    is_demonstration: bool
    hu_window: tuple[float, ...]
    conditioning: str
    geometry: GeometryRule
    cxr: CXRPreprocessing
    sampling: SamplingDefaults
    latents: LatentStatistics
    pe: PEOperatingPoint
    metrics: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    schema_version: str = BUNDLE_SCHEMA_VERSION
    training: dict[str, Any] = field(default_factory=dict, metadata={"optional": True})

    @property
    def preset_steps(self) -> PresetSteps | None:
        """Steps chosen by the measured curve of quality against steps; None if it was not measured."""
        curve = self.metrics.get(STEP_CURVE)
        return None if curve is None else PresetSteps(**curve["presets"])

    @property
    def full_heat(self) -> float | None:
        """Grad-CAM heat that is displayed as 1, measured on calibration patients; None if it was not
        measured."""
        return self.metrics.get(FULL_HEAT)

    @property
    def sha256(self) -> str:
        """Digest of the whole bundle: of every field, and through ``files`` of every file."""
        canonical = json.dumps(stated(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def stated(part: Any) -> dict[str, Any]:
    """The fields of a dataclass of this module as in bundle.json: optional ones only if they differ from
    their default."""
    values = {}
    for entry in fields(part):
        value = getattr(part, entry.name)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if entry.metadata.get("optional") and value == default:
            continue
        values[entry.name] = stated(value) if is_dataclass(value) else value
    return values


def read_bundle_json(folder: Path) -> BundleInfo:
    """Parses ``folder``/bundle.json; raises BundleError if it is absent, damaged or incompatible."""
    path = Path(folder) / BUNDLE_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"Expected a bundle (a folder with {BUNDLE_FILE}), got {folder} without it.",
            "Name a folder that save_pretrained and write_bundle_json wrote.",
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"Cannot read {path}: {error}.", REINSTALL_HINT) from error
    info, digest = _parse(values, path)
    if digest != info.sha256:
        raise BundleError(f"{path} was changed after it was written: its digest differs.", REINSTALL_HINT)
    return info


def parse_bundle(values: Mapping[str, Any], source: str = BUNDLE_FILE) -> BundleInfo:
    """Builds a BundleInfo from the JSON object ``values``; raises BundleError naming the wrong field."""
    if not isinstance(values, Mapping):
        raise BundleError(f"{source} must hold a JSON object, got {type(values).__name__}.", REINSTALL_HINT)
    _check_schema_version(values.get("schema_version"), source)
    info = _build(BundleInfo, values, source)
    _check_ranges(info, source)
    return info


def verify_bundle(folder: Path) -> BundleInfo:
    """Recomputes the SHA-256 of every file of the bundle and compares it with bundle.json.

    Returns:
        The parsed bundle.json.

    Raises:
        BundleError: names the missing, extra, changed and forbidden files.
    """
    folder = Path(folder)
    info = read_bundle_json(folder)
    present = set(_files(folder))
    problems = {
        "missing": sorted(set(info.files) - present),
        "not in bundle.json": sorted(present - set(info.files)),
        "changed": sorted(n for n in present & set(info.files) if _sha256(folder / n) != info.files[n]),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if found:
        raise BundleError(f"Bundle {folder} is damaged or was changed ({found}).", REINSTALL_HINT)
    return info


def write_bundle_json(folder: Path, info: BundleInfo) -> BundleInfo:
    """Writes bundle.json for the files now in ``folder``, replacing ``info.files`` by their hashes.

    The networks' configurations lose the folder that they were read from: a path of this machine.

    Returns:
        The information as written. Raises BundleError if the folder holds a file of a forbidden kind.
    """
    folder = Path(folder)
    for file in folder.rglob("config.json"):
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("_name_or_path", None) is not None:
            config.write_json(file, values)
    values = stated(info) | {"files": {name: _sha256(folder / name) for name in _files(folder)}}
    written = parse_bundle(json.loads(json.dumps(values)))
    config.write_json(folder / BUNDLE_FILE, stated(written) | {"sha256": written.sha256})
    return written


def _parse(values: Any, path: Path) -> tuple[BundleInfo, str]:
    if not isinstance(values, dict):
        raise BundleError(f"{path} must hold a JSON object, got {type(values).__name__}.", REINSTALL_HINT)
    digest = values.pop("sha256", "")
    return parse_bundle(values, str(path)), str(digest)


def _check_schema_version(version: Any, source: str) -> None:
    expected = BUNDLE_SCHEMA_VERSION.split(".")[0]
    if not isinstance(version, str) or version.split(".")[0] != expected:
        raise BundleError(
            f"{source} has schema version {version!r}, this program reads {expected}.x.",
            "Use a bundle and a program of the same generation.",
        )


def _build(cls: type[T], values: Any, source: str) -> T:
    """A dataclass ``cls`` of ``values``, whose sections are built first; every failure becomes a
    BundleError."""
    if not isinstance(values, Mapping):
        raise BundleError(f"{source}: expected an object, got {type(values).__name__}.", REINSTALL_HINT)
    optional = {f.name for f in fields(cls) if f.metadata.get("optional")}  # type: ignore[arg-type]
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    missing = sorted(known - optional - set(values))
    if missing:
        raise BundleError(f"{source} lacks {', '.join(missing)}.", REINSTALL_HINT)
    built = dict(values)
    for key, hint in get_type_hints(cls).items():
        if key not in values:
            continue
        if hasattr(hint, "__dataclass_fields__"):
            built[key] = _build(hint, values[key], f"{source}: {key}")
        elif get_origin(hint) is dict and not isinstance(values[key], dict):
            raise BundleError(f"{source}: {key} needs an object, got {values[key]!r}.", REINSTALL_HINT)
        elif get_origin(hint) is tuple:
            built[key] = _numbers(values[key], hint, f"{source}: {key}")
    try:
        return config.from_mapping(cls, built)
    except ConfigError as error:
        raise BundleError(f"{source}: {error.message}", error.hint) from error


def _numbers(value: Any, hint: Any, where: str) -> tuple[Any, ...]:
    element = hint.__args__[0]
    accepted = (int,) if element is int else (int, float)
    if not isinstance(value, list | tuple) or not all(type(v) in accepted for v in value):
        raise BundleError(f"{where} needs a list of {element.__name__}, got {value!r}.", REINSTALL_HINT)
    return tuple(element(v) for v in value)


def _check_ranges(info: BundleInfo, source: str) -> None:
    """Raises BundleError for the first value that no pipeline can use."""
    lengths = (info.geometry.mean_frame_side_mm, info.geometry.depth_fraction, info.cxr.frame_margin)
    distances = (info.geometry.source_to_detector_mm, info.geometry.detector_to_centre_mm)
    numbers = [*info.hu_window, *info.latents.mean, *info.latents.std, info.pe.platt_a, info.pe.platt_b]
    grid = info.geometry.grid
    channels = len(info.latents.mean)
    rules = {
        "every number must be finite": all(map(math.isfinite, [*numbers, *lengths, *distances])),
        "geometry.grid needs three sizes of at least 1": len(grid) == 3 and min(grid) > 0,
        "hu_window needs lower < upper": len(info.hu_window) == 2 and info.hu_window[0] < info.hu_window[1],
        f"conditioning must be one of {CONDITIONINGS}": info.conditioning in CONDITIONINGS,
        "sizes and distances must be positive": min(*lengths, *distances, info.cxr.frame_pixels) > 0,
        "source_to_detector_mm must exceed detector_to_centre_mm": distances[0] > distances[1],
        "sampling.temperature must be above 0 and at most 1": 0 < info.sampling.temperature <= 1,
        "sampling.map_spread must be from 0 to 1": 0 <= info.sampling.map_spread <= 1,
        "sampling.alignment must be at least 0": info.sampling.alignment >= 0,
        "sampling.guidance_scale and largest_latent must be at least 0": (
            info.sampling.guidance_scale >= 0 and info.sampling.largest_latent >= 0
        ),
        f"cxr.framing must be one of {FRAMINGS}": info.cxr.framing in FRAMINGS,
        "cxr.std must be positive": info.cxr.std > 0,
        "geometry.extent_mm needs no or three positive lengths": len(info.geometry.extent_mm) in (0, 3)
        and all(length > 0 for length in info.geometry.extent_mm),
        "steps and samples must be at least 1": min(info.sampling.steps, info.sampling.samples) > 0,
        "latents.mean and latents.std need one number a channel": 0 < channels == len(info.latents.std),
        "latents.std must be positive": all(s > 0 for s in info.latents.std),
        "pe.threshold must lie between 0 and 1": 0 < info.pe.threshold < 1,
        "files must be relative paths inside the bundle": all(map(_is_inside, info.files)),
    }
    rules[
        f"metrics: {STEP_CURVE} needs presets, whole numbers with 1 <= preview <= standard <= reference"
    ] = STEP_CURVE not in info.metrics or _is_step_curve(info.metrics[STEP_CURVE])
    heat = info.full_heat
    rules[f"metrics: {FULL_HEAT} needs a positive number"] = heat is None or (
        type(heat) in (int, float) and 0 < heat < math.inf
    )
    for rule, holds in rules.items():
        if not holds:
            raise BundleError(f"{source}: {rule}.", REINSTALL_HINT)


def _is_step_curve(curve: Any) -> bool:
    names = [f.name for f in fields(PresetSteps)]
    presets = curve.get("presets") if isinstance(curve, dict) else None
    if not isinstance(presets, dict) or sorted(presets) != sorted(names):
        return False
    steps = [presets[name] for name in names]
    return all(type(number) is int for number in steps) and 1 <= steps[0] <= steps[1] <= steps[2]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _files(folder: Path) -> list[str]:
    """POSIX paths of every file of the bundle but bundle.json; raises BundleError for forbidden kinds."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    names = [name for name in names if name != BUNDLE_FILE]
    forbidden = [n for n in names if not n.endswith(ALLOWED_SUFFIXES) and n not in ALLOWED_NAMES]
    if forbidden:
        raise BundleError(
            f"A bundle holds only safetensors, JSON and README.md, got {', '.join(forbidden)} in {folder}.",
            "Remove the other files.",
        )
    return names


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error}.", REINSTALL_HINT) from error
