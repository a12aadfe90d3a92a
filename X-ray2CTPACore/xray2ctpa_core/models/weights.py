"""Loads tensors into a network by name, without missing or unexpected tensors or other shapes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from xray2ctpa_core.config import replacing
from xray2ctpa_core.errors import BundleError

#: Number of names that a message lists before it counts the rest.
_NAMES_SHOWN = 4


def load_exactly(
    network: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    source: str,
    hint: str,
    name_in_source: Callable[[str], str] = str,
) -> None:
    """Copies ``tensors`` into ``network``, each in the network's own dtype.

    Args:
        network: receives the values; unchanged if an error is raised.
        tensors: by their names in the source.
        source: name of the source, for the error.
        hint: what to do if they do not fit, for the error.
        name_in_source: name of a tensor in the source, from its name in the network.

    Raises:
        BundleError: names the tensors that are missing, unexpected, of another shape or not finite, or that
            are one tensor in the network and several different ones in the source.
    """
    expected = {name_in_source(name): tensor for name, tensor in network.state_dict().items()}
    shared = sorted(expected.keys() & tensors.keys())
    shapes = [(name, tuple(tensors[name].shape), tuple(expected[name].shape)) for name in shared]
    complaint = f"{source} does not fit {type(network).__name__}"
    refuse(
        complaint,
        hint,
        {
            "missing": sorted(expected.keys() - tensors.keys()),
            "unexpected": sorted(tensors.keys() - expected.keys()),
            "shapes": [f"{name} needs {want}, got {got}" for name, got, want in shapes if got != want],
            "not finite": [name for name in shared if not tensors[name].isfinite().all()],
        },
    )
    network.load_state_dict({name: tensors[name_in_source(name)] for name in network.state_dict()})
    kept = {name_in_source(name): tensor for name, tensor in network.state_dict().items()}
    differing = [name for name in sorted(kept) if not torch.equal(kept[name], tensors[name].to(kept[name]))]
    refuse(complaint, hint, {"different where layers share one": differing})


def refuse(complaint: str, hint: str, problems: Mapping[str, Sequence[str]]) -> None:
    """Raises BundleError if ``problems``, kind -> names, hold any name."""
    found = []
    for kind, names in problems.items():
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        if names:
            found.append(f"{kind}: {', '.join(names[:_NAMES_SHOWN])}{more}")
    if found:
        raise BundleError(f"{complaint} ({'; '.join(found)}).", hint)


def save_tensors(network: nn.Module, path: Path) -> None:
    """Writes the network's state dict as safetensors, atomically."""
    with replacing(path) as partial:
        save_file({name: t.detach().cpu().clone() for name, t in network.state_dict().items()}, partial)


def load_tensors(network: nn.Module, path: Path) -> None:
    """Loads the output of `save_tensors` into a network of the same architecture.

    Raises:
        BundleError: no such file, or it is of another network.
    """
    hint = "Set start to the folder of a run with the same network."
    if not path.is_file():
        raise BundleError(f"Expected weights at {path}, which is no file.", hint)
    load_exactly(network, load_file(path), str(path), hint)
