"""Finds and verifies the bundle that a user names: an embedded one, a folder or a Hub id.

A single network, which is not a bundle, is loaded from its own folder.
"""

import importlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core.errors import BundleError, XRay2CTPAError
from xray2ctpa_core.pipelines.bundle import BundleInfo, verify_bundle

if TYPE_CHECKING:
    from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser

#: Environment variable with one or several folders, separated as in PATH, of bundles that were fetched
#: before, as NAME, OWNER/NAME or OWNER/NAME@REVISION. They are searched before the Hub, for use without a
#: network.
OFFLINE_FOLDERS_VARIABLE = "XRAY2CTPA_BUNDLES"
EMBEDDED = Path(__file__).resolve().parents[1] / "bundles"
#: Package of the classes that `load_part` loads.
MODELS = Path(__file__).resolve().parents[1] / "models"
HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?")
HUB_PATTERNS = ["*.safetensors", "*.json", "README.md"]
_CONVERT_HINT = "Make it anew: xray2ctpa convert KIND CHECKPOINT OUT."


def load_bundle(name: str | os.PathLike[str], revision: str | None = None) -> tuple[Path, BundleInfo]:
    """Finds the bundle and verifies all its files; raises BundleError if either fails."""
    folder = resolve_bundle(name, revision)
    return folder, verify_bundle(folder)


def resolve_bundle(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder of the bundle ``name``; its contents are not checked here.

    Args:
        name: an embedded bundle ("virtual-thorax"), a folder, or a Hub id "owner/name@revision". The
            network is used only for a Hub id that is in none of the folders of XRAY2CTPA_BUNDLES.
        revision: commit or tag of a Hub id, if ``name`` does not have it.

    Raises:
        BundleError: no such bundle, no revision for a Hub id, or the Hub cannot be reached.
    """
    text = os.fspath(name)
    if text in embedded_bundles():
        return EMBEDDED / text
    return find_folder(text, "bundle", HUB_PATTERNS, revision)


def find_folder(text: str, what: str, patterns: list[str], revision: str | None = None) -> Path:
    """The folder for ``text``: that folder itself, one in XRAY2CTPA_BUNDLES, or a snapshot of the Hub.

    Args:
        text: a folder or "owner/name@revision".
        what: "bundle" or another word for what is searched, for messages.
        patterns: files to fetch.
        revision: if ``text`` does not have it.

    Raises:
        BundleError: no such folder, no revision for a Hub id, or the Hub cannot be reached.
    """
    if text and Path(text).expanduser().is_dir():
        return Path(text).expanduser()
    match = HUB_ID.fullmatch(text)
    revision = revision or (match["revision"] if match else None)
    for parent in filter(None, os.environ.get(OFFLINE_FOLDERS_VARIABLE, "").split(os.pathsep)):
        for candidate in (text, f"{match['repo']}@{revision}" if match else text):
            if text and (Path(parent) / candidate).is_dir():
                return Path(parent) / candidate
    if match is None:
        embedded = f"an embedded bundle ({', '.join(embedded_bundles()) or 'none is installed'}), "
        raise BundleError(
            f"Expected {embedded if what == 'bundle' else ''}a folder or a Hub id, got {text!r}.",
            "Check the name or path given to --bundle." if what == "bundle" else f"Check the {what}'s name.",
        )
    if revision is None:
        raise BundleError(
            f"No folder {text!r} here, and a Hub {what} needs a pinned revision, got none.",
            f"Write {text}@COMMIT, so that the same weights are loaded every time.",
        )
    return _download(match["repo"], revision, what, patterns)


def embedded_bundles() -> list[str]:
    """Names of the bundles that came with the package."""
    if not EMBEDDED.is_dir():
        return []
    return sorted(p.name for p in EMBEDDED.iterdir() if (p / "bundle.json").is_file())


def load_part(folder: str | os.PathLike[str]) -> Any:
    """Loads a network of `xray2ctpa_core.models` that its save_pretrained wrote; no pickle is ever read.

    Args:
        folder: with config.json, whose _class_name names the class, and diffusion_pytorch_model.safetensors.

    Returns:
        The network in fp32 on the CPU, in evaluation mode.

    Raises:
        BundleError: the folder or one of its files is missing or damaged, or of a class of another package.
    """
    from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
    from safetensors.torch import load_file

    from xray2ctpa_core.models.weights import load_exactly

    place = Path(folder)
    missing = [name for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME) if not (place / name).is_file()]
    if missing:
        raise BundleError(f"Expected a converted network, got {place} without {missing[0]}.", _CONVERT_HINT)
    try:
        values = json.loads((place / CONFIG_NAME).read_text(encoding="utf-8"))
        made = part_class(values["_class_name"])
        network = made(**{k: v for k, v in values.items() if not k.startswith("_")})
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        raise BundleError(f"{place / CONFIG_NAME} describes no network: {error}.", _CONVERT_HINT) from error
    except XRay2CTPAError as error:
        raise BundleError(f"{place / CONFIG_NAME} describes no network: {error}", _CONVERT_HINT) from error
    try:
        tensors = load_file(place / SAFETENSORS_WEIGHTS_NAME)
    except Exception as error:  # OSError, or the error of safetensors, which derives from Exception directly
        raise BundleError(
            f"Cannot read {place / SAFETENSORS_WEIGHTS_NAME}: {error}.", _CONVERT_HINT
        ) from error
    load_exactly(network, tensors, str(place), _CONVERT_HINT)
    return network.eval()


def part_class(name: str) -> Any:
    """The class ``name`` of `xray2ctpa_core.models`; only its own module is imported.

    Raises:
        LookupError: there is none.
    """
    from diffusers import ModelMixin

    defines = re.compile(rf"^class {re.escape(str(name))}\(", re.MULTILINE)
    for file in sorted(MODELS.rglob("*.py")):
        if defines.search(file.read_text(encoding="utf-8")):
            module = ".".join(file.relative_to(MODELS).with_suffix("").parts)
            found = getattr(importlib.import_module(f"xray2ctpa_core.models.{module}"), str(name))
            if issubclass(found, ModelMixin):
                return found
    raise LookupError(f"expected a class of xray2ctpa_core.models, got {name!r}")


def load_denoiser(folder: str | os.PathLike[str]) -> "PaperDenoiser":
    """Loads the papers' denoiser from the output of `xray2ctpa convert upstream-denoiser`; errors as
    `load_part`, also for another network."""
    from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser

    network = load_part(folder)
    if not isinstance(network, PaperDenoiser):
        raise BundleError(
            f"Expected a {PaperDenoiser.__name__} in {Path(folder)}, got a {type(network).__name__}.",
            _CONVERT_HINT,
        )
    return network


def _download(repo: str, revision: str, what: str, patterns: list[str]) -> Path:
    """Snapshot of a Hub repository at ``revision``, from the local cache if it is there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the Hub's client raises errors of many libraries; all mean the same here
        raise BundleError(
            f"Cannot fetch {what} {repo} at revision {revision} from the Hugging Face Hub "
            f"({type(error).__name__}).",
            f"Check name, revision and network, or put the folder {repo} in a folder named by "
            f"{OFFLINE_FOLDERS_VARIABLE}.",
        ) from error
