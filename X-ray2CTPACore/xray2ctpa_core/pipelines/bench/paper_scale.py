"""A volume of the papers' size by their sampler and by ours, on one device, in one run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from xray2ctpa_core.explanation.gradcam import gradcam_map
from xray2ctpa_core.networks import paper_denoiser
from xray2ctpa_core.networks.pe_classifier import PEClassifier
from xray2ctpa_core.pipelines.bench import sides
from xray2ctpa_core.pipelines.bench.child import REFERENCE_SIDE, start_and_memory
from xray2ctpa_core.pipelines.bench.floor import Rates, counted_flops, floor, least_bytes, measured_rates
from xray2ctpa_core.pipelines.bench.sides import REFERENCE, Given, Scale
from xray2ctpa_core.pipelines.bench.timing import interleaved, ratios, spread
from xray2ctpa_core.pipelines.device import DTYPES

#: Called with (what, done, of).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BenchConfig:
    """How much is measured.

    Attributes:
        repeats: rounds of network passes and of decoding, after one to warm up.
        decoded: slices decoded in a round; the rest of a volume is extrapolated.
        seed: of weights and input.
        children: whether start-up and memory are measured, in processes of their own.
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
    """Both sides on one device.

    Args:
        weights: the released network's 301 tensors.
        config: how much is measured.
        device: where; half precision is bf16 on a CPU, and fp16 too on a GPU.
        scale: of latents and decoder.
        progress: called with (what, done, of).

    Returns:
        JSON-ready: device, threads, ``sides`` (a dictionary each, seconds as Spread), of them ``ratio`` to
        the reference's pass round by round, ``difference`` of their outputs, ``floor``, and what was
        extrapolated.
    """
    ours = sides.precisions(["fp32", "bf16", *(["fp16"] if device.type == "cuda" else [])])
    inputs = sides.given(scale, config.seed, device)
    networks = {name: sides.our_network(weights, precision, device) for name, precision in ours.items()}
    passes = {REFERENCE: sides.reference_pass(weights, inputs)}
    passes |= {name: sides.our_pass(network, inputs) for name, network in networks.items()}
    outputs = {name: run() for name, run in passes.items()}
    seconds = interleaved(
        passes, config.repeats, device, lambda done, of: progress("network passes", done, of)
    )
    decoded = _decoding(ours, config, device, scale, progress)
    explanation = _explanation(device, scale)
    rates = {dtype: measured_rates(device, dtype) for dtype in {n.dtype for n in networks.values()}}
    found: dict[str, dict[str, Any]] = {}
    for name in passes:
        steps = scale.steps if name == REFERENCE else scale.our_steps
        whole = spread(seconds[name]).median * steps
        found[name] = {
            "pass_s": asdict(spread(seconds[name])),
            "pass_ratio": asdict(ratios(seconds[name], seconds[REFERENCE])),
            "steps": steps,
            "sampling_s": whole,
            "decode_s": decoded[name]["seconds"],
            "decode_difference_hu": decoded[name]["difference_hu"],
            "explanation_s": explanation,
            "volume_s": whole + decoded[name]["seconds"] + explanation,
            "difference": _difference(outputs[name], outputs[REFERENCE]),
            "floor": _floor(name, weights, inputs, networks, rates),
        }
        found[name]["share_of_floor"] = found[name]["floor"]["seconds"] / found[name]["pass_s"]["median"]
    if config.children and device.type == "cpu":
        for number, (name, side) in enumerate({REFERENCE: REFERENCE_SIDE, **ours}.items()):
            found[name] |= start_and_memory(side, scale.latents, torch.get_num_threads())
            progress("start-up and memory", number + 1, len(found))
    for name in found:
        found[name]["volume_ratio"] = found[name]["volume_s"] / found[REFERENCE]["volume_s"]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "latents": list(scale.latents),
        "sides": found,
        "extrapolated": f"{config.repeats} of {scale.steps} passes and "
        f"{min(config.decoded, scale.latents[1])} of {scale.latents[1]} slices were run",
    }


def _decoding(
    ours: dict[str, str], config: BenchConfig, device: torch.device, scale: Scale, progress: Progress
) -> dict[str, dict[str, float]]:
    """Seconds of a volume's decoding by each side, and the greatest difference in HU from the reference's."""
    count = min(config.decoded, scale.latents[1])
    generator = torch.Generator().manual_seed(config.seed)
    channels, _, height, width = scale.latents
    slices = torch.randn(count, channels, height, width, generator=generator).to(device)
    decoder = sides.papers_decoder(scale, config.seed).to(device)
    calls: dict[str, Callable[[], torch.Tensor]] = {
        REFERENCE: lambda: sides.reference_decode(decoder, slices)
    }
    for name, precision in ours.items():
        own = decoder
        if precision != "fp32":
            own = sides.papers_decoder(scale, config.seed).to(device, DTYPES[precision])
        calls[name] = lambda own=own: sides.our_decode(own, slices)  # type: ignore[misc]
    outputs = {name: call() for name, call in calls.items()}
    seconds = interleaved(
        calls, max(1, config.repeats // 2), device, lambda done, of: progress("decoding", done, of)
    )
    return {
        name: {
            "seconds": spread(seconds[name]).median * scale.latents[1] / count,
            "difference_hu": float((outputs[name] - outputs[REFERENCE]).abs().max()),
        }
        for name in calls
    }


def _explanation(device: torch.device, scale: Scale) -> float:
    """Seconds of the papers' latent classifier with Grad-CAM: one code, the same for every side."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = PEClassifier(
            scale.latents[0], 64, 32, scale.classifier_blocks, norm="batch", first_stride=(1, 2, 2)
        )
    classifier = classifier.eval().to(device)
    latents = torch.randn(1, *scale.latents, device=device)
    _, depth, height, width = scale.latents
    grid = (depth, 8 * height, 8 * width)
    action = {"explanation": lambda: gradcam_map(classifier, classifier.gradcam_layer, latents, grid)}
    return interleaved(action, 1, device)["explanation"][0]


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
    rates: dict[torch.dtype, Rates],
) -> dict[str, float]:
    """Floor of one pass of a side: of the reference by its own operations and by our layers' bytes."""
    network = networks.get(name, networks["ours fp32"])
    call = sides.our_pass(network, inputs)
    flops = counted_flops(sides.reference_pass(weights, inputs) if name == REFERENCE else call)
    layers: tuple[type[nn.Module], ...] = (nn.Conv3d, nn.ConvTranspose3d, *paper_denoiser.ATTENTIONS)
    return asdict(floor(flops, least_bytes(network, layers, call), rates[network.dtype]))
