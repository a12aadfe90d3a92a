"""Measures a volume of the papers' size with their sampler and with ours, on one device, in one run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from xray2ctpa_core.benchmark import sides
from xray2ctpa_core.benchmark.child import REFERENCE_SIDE, start_and_memory
from xray2ctpa_core.benchmark.decoding import measure_decoding, structure, tiny_decoder
from xray2ctpa_core.benchmark.floor import Rates, counted_flops, floor, least_bytes, measured_rates
from xray2ctpa_core.benchmark.held import held_by_a_volume
from xray2ctpa_core.benchmark.sides import REFERENCE, Given, Scale
from xray2ctpa_core.benchmark.timing import interleaved, ratios, spread
from xray2ctpa_core.models.denoisers import x_ray2ctpa as paper_denoiser
from xray2ctpa_core.models.denoisers.captured import CapturedDenoiser
from xray2ctpa_core.pipelines.device import DTYPES, set_arithmetic

#: Target on a CPU: a volume takes at most 1/TARGET of the reference's time.
TARGET = 100
#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BenchConfig:
    """Extent of the measurement.

    Attributes:
        repeats: rounds of network passes, after one to warm up; decoding has half as many.
        decoded: slices that the autoencoder decodes in a round; the rest of a volume is extrapolated.
        seed: of weights and input.
        children: whether start-up and memory are measured, each in its own process.
    """

    repeats: int = 5
    decoded: int = 2
    seed: int = 0
    children: bool = True


def measure_paper_scale(
    weights: dict[str, torch.Tensor],
    config: BenchConfig,
    device: torch.device,
    scale: Scale,
    progress: Progress,
) -> dict[str, Any]:
    """Measures both sides on one device.

    Args:
        weights: the released network's 301 tensors.
        config: extent of the measurement.
        device: where; on a GPU also in TF32 and fp16, and with passes captured in graphs.
        scale: of latents and decoder.
        progress: called with (what, done, of).

    Returns:
        JSON-ready: device, threads, latents, ``tiny_decoder`` (its structure), what was extrapolated, and
        ``sides``, a dictionary for each: ``pass_s`` and ``pass_ratio`` to the reference's round by round, as
        Spread, and ``processor_ratio``, the same of processor time; ``volume_s``, ``volume_ratio`` and
        ``passes_that_fit`` 1/TARGET, of ours also by the tiny decoder (``tiny_...``); ``difference`` of the
        outputs; ``floor``; of ours ``held``, the memory of a volume; for sides that should be captured
        ``not_captured``, the reason why they were not, or "".
    """
    ours = sides.our_sides(device)
    inputs = sides.given(scale, config.seed, device)
    networks = {name: sides.our_network(weights, precision, device) for name, precision in ours.items()}
    passes = {REFERENCE: sides.reference_pass(weights, inputs)}
    captured = {
        name: CapturedDenoiser(network) for name, network in networks.items() if name.endswith(sides.CAPTURED)
    }
    passes |= {
        name: sides.our_pass(network, inputs, ours[name], captured.get(name))
        for name, network in networks.items()
    }
    outputs = {name: run() for name, run in passes.items()}
    processor: dict[str, list[float]] = {}
    seconds = interleaved(
        passes, config.repeats, device, lambda done, of: progress("network passes", done, of), processor
    )
    rounds = max(1, config.repeats // 2)
    decoded = measure_decoding(ours, rounds, config.decoded, config.seed, device, scale, progress)
    explain = sides.explanation(device, scale)
    explanation = interleaved({"explanation": explain}, 1, device)["explanation"][0]
    rates = {precision: _rates(precision, device) for precision in sorted(set(ours.values()))}
    found: dict[str, dict[str, Any]] = {}
    for name in passes:
        steps = scale.steps if name == REFERENCE else scale.our_steps
        whole = spread(seconds[name]).median * steps
        found[name] = {
            "pass_s": asdict(spread(seconds[name])),
            "pass_ratio": asdict(ratios(seconds[name], seconds[REFERENCE])),
            "processor_ratio": asdict(ratios(processor[name], processor[REFERENCE])),
            "steps": steps,
            "sampling_s": whole,
            **decoded[name],
            "explanation_s": explanation,
            "difference": _difference(outputs[name], outputs[REFERENCE]),
            "floor": _floor(name, weights, inputs, networks, rates[ours.get(name, "fp32")]),
        }
        found[name] |= _volumes(found[name], found[REFERENCE], explanation)
        found[name]["share_of_floor"] = found[name]["floor"]["seconds"] / found[name]["pass_s"]["median"]
    for name, denoiser in captured.items():
        found[name]["not_captured"] = denoiser.reason
        denoiser.forget()
    for name, network in networks.items():
        found[name]["held"] = held_by_a_volume(network, passes[name], explain, config.seed, device, scale)
    if config.children and device.type == "cpu":
        for number, (name, side) in enumerate({REFERENCE: REFERENCE_SIDE, **ours}.items()):
            found[name] |= start_and_memory(side, scale.latents, torch.get_num_threads())
            progress("start-up and memory", number + 1, len(found))
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "latents": list(scale.latents),
        "tiny_decoder": structure(tiny_decoder(scale, config.seed), scale),
        "sides": found,
        "extrapolated": f"{config.repeats} of {scale.steps} passes and "
        f"{min(config.decoded, scale.latents[1])} of {scale.latents[1]} slices by the autoencoder were run",
    }


def _volumes(side: dict[str, Any], reference: dict[str, Any], explanation: float) -> dict[str, Any]:
    """Seconds for a volume with each decoder, their share of the reference's, and the number of passes that
    would fit into 1/TARGET of the reference's time."""
    found: dict[str, Any] = {}
    whole = reference["sampling_s"] + (reference["decode_s"] + explanation)
    decodings = {"": side["decode_s"]}
    if "tiny_decode_s" in side:
        decodings["tiny_"] = side["tiny_decode_s"]["median"]
    for prefix, decoding in decodings.items():
        rest = decoding + explanation
        found[f"{prefix}volume_s"] = side["sampling_s"] + rest
        found[f"{prefix}volume_ratio"] = found[f"{prefix}volume_s"] / whole
        found[f"{prefix}passes_that_fit"] = max(0, int((whole / TARGET - rest) / side["pass_s"]["median"]))
    return found


def _difference(output: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """Greatest absolute difference, and root mean square over the reference's standard deviation."""
    error = output - reference
    return {
        "greatest": float(error.abs().max()),
        "relative_rms": float(error.square().mean().sqrt() / reference.std()),
    }


def _floor(
    name: str,
    weights: dict[str, torch.Tensor],
    inputs: Given,
    networks: dict[str, paper_denoiser.PaperDenoiser],
    rates: Rates,
) -> dict[str, float]:
    """Floor of one pass of a side: for the reference from its own operations and our layers' bytes."""
    network = networks.get(name, networks["ours fp32"])
    call = sides.our_pass(network, inputs)
    flops = counted_flops(sides.reference_pass(weights, inputs) if name == REFERENCE else call)
    layers: tuple[type[nn.Module], ...] = (nn.Conv3d, nn.ConvTranspose3d, *paper_denoiser.ATTENTIONS)
    return asdict(floor(flops, least_bytes(network, layers, call), rates))


def _rates(precision: str, device: torch.device) -> Rates:
    """Rates of the device in ``precision``."""
    set_arithmetic(precision)
    return measured_rates(device, DTYPES[precision])
