"""The measurements as Markdown tables."""

from collections.abc import Callable, Mapping
from typing import Any

from xray2ctpa_core.benchmark.end_to_end import REFERENCE_STEPS
from xray2ctpa_core.benchmark.paper_scale import TARGET
from xray2ctpa_core.benchmark.side_by_side import side_by_side
from xray2ctpa_core.benchmark.sides import REFERENCE
from xray2ctpa_core.benchmark.targets import NOT_MEASURED, targets_table
from xray2ctpa_core.evaluation.markdown import table

NOTES = (
    "Median [least, greatest] of rounds that do every side in turn; ratios are taken round by round. ~ "
    "marks what is extrapolated. Reference: the released structure, eager, in single precision, 1000-step "
    "ancestral DDPM, slices decoded one by one through 8-bit grey. Floor: counted operations over the rate"
    " of the faster of a large matrix product and a convolution, or the bytes of every layer's input, "
    "weights and output over the rate of a copy, whichever takes longer, both rates measured in this run; "
    "its share is what of a pass it would take. Weights and input are the same on all sides; what decodes "
    "has random weights. Passes that fit: so many leave the volume at or below that part of the reference's, "
    "decoding and classifier included. Tensors held: weights of denoiser, autoencoder and classifier, and "
    "what a pass, a batch of slices or Grad-CAM holds beside them, whichever is most; on a GPU the "
    "libraries' own memory comes on top. In turn: one network at a time in that memory."
)


def markdown(results: Mapping[str, Any]) -> str:
    """The whole report of the content of bench.json."""
    parts = [] if results.get("trial") else ["## Targets", targets_table(results)]
    if results.get("warm"):
        parts += ["## Side by side", side_by_side(results)]
    if results.get("paper_scale"):
        parts.append("## Paper scale: one volume, same weights, same input")
        for device in ("cpu", "cuda"):
            found = results["paper_scale"].get(device)
            parts.append(paper_scale(found) if found else f"GPU: {NOT_MEASURED} (no CUDA device here).")
    for found in results.get("end_to_end", []):
        parts += [f"## {found['bundle']}: the whole command on {found['device']}", end_to_end(found)]
    for found in results.get("warm", []):
        parts += [f"## {found['bundle']}: loaded, on {found['device']} in {found['precision']}", warm(found)]
    return "\n\n".join([*parts, NOTES]) + "\n"


def paper_scale(found: Mapping[str, Any]) -> str:
    """A column for each side, and a note on what was extrapolated."""
    sides: Mapping[str, Any] = found["sides"]
    rows: list[tuple[str, list[str]]] = [
        ("network pass, s", [_seconds(s["pass_s"]) for s in sides.values()]),
        ("of the reference's", [_ratio(s["pass_ratio"]) for s in sides.values()]),
        ("of its processor time", [_ratio(s["processor_ratio"]) for s in sides.values()]),
        ("passes", [str(s["steps"]) for s in sides.values()]),
        ("all passes, s", [f"~{s['sampling_s']:.1f}" for s in sides.values()]),
        ("decoding, s", [f"~{s['decode_s']:.1f}" for s in sides.values()]),
        ("decoding by the tiny decoder, s", _each(sides, "tiny_decode_s", _seconds)),
        ("classifier and Grad-CAM, s", [f"{s['explanation_s']:.2f}" for s in sides.values()]),
        ("volume, s", _each(sides, "volume_s", _extrapolated)),
        ("volume by the tiny decoder, s", _each(sides, "tiny_volume_s", _extrapolated)),
        ("of the reference's volume", _each(sides, "volume_ratio", _fraction)),
        ("of it by the tiny decoder", _each(sides, "tiny_volume_ratio", _fraction)),
        (f"passes that fit 1/{TARGET}", _each(sides, "passes_that_fit", _passes)),
        (f"passes that fit 1/{TARGET} by the tiny decoder", _each(sides, "tiny_passes_that_fit", _passes)),
        ("start-up, s", [_optional(s.get("startup_s")) for s in sides.values()]),
        ("peak memory, MB", [_optional(s.get("peak_memory_mb"), 0) for s in sides.values()]),
        ("tensors held at most, MB", _each(sides, "held", lambda held: f"~{held['together_mb']:.0f}")),
        ("the same, networks in turn, MB", _each(sides, "held", lambda held: f"~{held['in_turn_mb']:.0f}")),
        ("greatest difference of a pass", [f"{s['difference']['greatest']:.2g}" for s in sides.values()]),
        ("relative RMS difference", [f"{s['difference']['relative_rms']:.2g}" for s in sides.values()]),
        ("greatest difference decoded, HU", [f"{s['decode_difference_hu']:.1f}" for s in sides.values()]),
        ("GFLOP of a pass", [f"{s['floor']['flops'] / 1e9:.1f}" for s in sides.values()]),
        ("GB of a pass", [f"{s['floor']['moved'] / 1e9:.2f}" for s in sides.values()]),
        ("floor of a pass, s", [f"{s['floor']['seconds']:.3f}" for s in sides.values()]),
        ("share of the floor reached", [f"{s['share_of_floor']:.0%}" for s in sides.values()]),
    ]
    place = f"{found['device']}, {found['threads']} threads, latents {found['latents']}"
    text = table([place, *sides], [[label, *cells] for label, cells in rows])
    lines = [f"Extrapolated (~): {found['extrapolated']}; {REFERENCE} is 1 by definition.", *_tiny(found)]
    return "\n\n".join([text, *lines])


def _tiny(found: Mapping[str, Any]) -> list[str]:
    """The structure of the tiny decoder in one sentence."""
    tiny = found["tiny_decoder"]
    return [
        f"Tiny decoder: width {tiny['width']}, blocks {tiny['blocks']}, {tiny['parameters']} parameters, "
        f"{tiny['slice_flops'] / 1e9:.1f} GFLOP a slice, random weights, on which time does not depend."
    ]


def end_to_end(found: Mapping[str, Any]) -> str:
    """Seconds in total, for start-up, and for each stage."""
    rows = [("total", found["total_s"]), ("processor time", found["processor_s"])]
    rows += [("start-up (imports, reading, loading)", found["startup_s"])]
    rows += [(f"stage: {name}", seconds) for name, seconds in found["stages"].items()]
    lines = [[label, _seconds(seconds)] for label, seconds in rows]
    lines.append([f"denoise by {REFERENCE_STEPS} steps of DDPM", f"~{found['reference_denoise_s']:.0f}"])
    lines.append(["peak memory, MB", _optional(found["peak_memory_mb"], 0)])
    lines.append(["each further radiograph of one command", _seconds(found["further_s"])])
    lines.append(["first radiograph through a resident worker", _seconds(found["first_s"])])
    lines.append(["second", _seconds(found["second_s"])])
    lines.append(["second, of the first", _ratio(found["second_of_first"])])
    return table([f"{found['steps']} steps", "seconds"], lines)


def warm(found: Mapping[str, Any]) -> str:
    """Seconds for a further radiograph, for its stages, and for several samples at once."""
    several, share = found["several_s"], found["of_one_by_one"]
    rows = [["a radiograph", _seconds(found["one_s"])]]
    rows += [[f"stage: {name}", f"{seconds:.3f}"] for name, seconds in found["stages"].items()]
    rows.append([f"{found['samples']} samples of it at once", _seconds(several)])
    rows.append(["the same, of one by one", _ratio(share)])
    rows.append(["the same in processor time", _ratio(found["processor_of_one_by_one"])])
    rows.append(["first sample the same", "yes" if found["same_voxels"] else "no"])
    rows.append(["passes captured", "no: " + found["not_captured"] if found["not_captured"] else "yes"])
    return table([f"{found['steps']} steps", "seconds"], rows)


def _seconds(value: Mapping[str, float]) -> str:
    return f"{value['median']:.3f} [{value['least']:.3f}, {value['greatest']:.3f}]"


def _ratio(value: Mapping[str, float]) -> str:
    return f"{value['median']:.2f} [{value['least']:.2f}, {value['greatest']:.2f}]"


def _fraction(value: float) -> str:
    return "1" if value == 1 else f"~1/{1 / value:.0f}"


def _each(sides: Mapping[str, Any], key: str, shown: Callable[[Any], str]) -> list[str]:
    """``key`` of every side; a dash for a side without it."""
    return [shown(side[key]) if key in side else "-" for side in sides.values()]


def _extrapolated(seconds: float) -> str:
    return f"~{seconds:.1f}"


def _passes(number: int) -> str:
    return f"~{number}"


def _optional(value: float | None, digits: int = 1) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"
