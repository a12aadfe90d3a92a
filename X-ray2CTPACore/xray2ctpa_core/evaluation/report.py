"""An evaluation's summary as Markdown: one table of volumes, then differences, PE, Grad-CAM and the pair."""

from collections.abc import Sequence
from typing import Any

from xray2ctpa_core.evaluation.markdown import table
from xray2ctpa_core.evaluation.summary import IMAGE_COLUMNS

#: Digits after the point of each column; the rest have 3.
DIGITS = {"psnr": 2, "psnr_paper": 2, "mae": 0}
NOTES = (
    "Mean [95 % interval]; intervals of means and paired differences by bootstrap over patients, of "
    "AUROCs by DeLong, of rates by Wilson, of correlations of scores by Fisher. The signs' log-odds are"
    " the best that a radiograph could say of PE: labels agree with them in about two of three "
    "patients. SSIM and PSNR in the bundle's HU window unless stated. Perceptual distances: every "
    "fourth axial slice. Dice: frontal masks of the lungs and of the contrast-filled heart and great "
    "vessels (above 150 HU), found by one fixed rule in both volumes. Correlation with the film: "
    "frontal projection by parallel rays against the radiograph's frame, greys equalised; the patient's"
    " own CTPA is the ceiling. Grad-CAM: share of the lungs' heat inside clot-bearing lobes; chance is "
    "those lobes' share of the lungs."
)

FRECHET_NOTE = (
    "Fréchet distances between the set of volumes and the patients' own, with jackknife intervals over "
    "patients. They grow as patients get fewer: compare rows of equal n only."
)


def markdown(summary: dict[str, Any]) -> str:
    """The whole report."""
    parts = ["## Volumes", _images(summary["images"])]
    if summary.get("frechet"):
        parts += ["## Sets of volumes", _frechet(summary["frechet"], summary["features"]), FRECHET_NOTE]
    if summary["differences"]:
        parts += ["## Paired differences", _differences(summary["differences"])]
    if summary["classification"]:
        parts += ["## Pulmonary embolism", _classification(summary)]
        parts += ["What a result says (probability from generated latents, at the bundle's threshold):"]
        parts += [_decisions(summary["decisions"])]
    if summary["gradcam"]:
        parts += ["## Grad-CAM", _gradcam(summary["gradcam"])]
    if summary["hottest"]:
        parts += ["Greatest value of a sample's Grad-CAM, 0 to 1:", _hottest(summary["hottest"])]
    for films in summary.get("films", []):
        parts += [f"## Real radiographs: {films['folder']}", _films(films)]
    for pair in summary.get("pairs", []):
        parts += [f"## Real pair {pair['pair']}", _pair(pair), pair["note"]]
    return "\n\n".join([*parts, NOTES]) + "\n"


def interval_text(value: dict[str, float] | None, digits: int = 3, signed: bool = False) -> str:
    """``estimate [lower, upper]``, or a dash where nothing was measured."""
    if value is None:
        return "-"
    sign = "+" if signed else ""
    numbers = [f"{value[key]:{sign}.{digits}f}" for key in ("estimate", "lower", "upper")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def _images(entries: Sequence[dict[str, Any]]) -> str:
    columns = _measured(entries)
    headings = ["bundle", "volume", "n", *(IMAGE_COLUMNS[c][0] for c in columns)]
    lines = (
        [e["bundle"], e["method"], str(e["patients"]), *(_cell(e, c, signed=False) for c in columns)]
        for e in entries
    )
    return table(headings, lines)


def _frechet(entries: Sequence[dict[str, Any]], titles: dict[str, str]) -> str:
    lines = (
        [e["bundle"], e["method"], str(e["patients"]), *(interval_text(e.get(m), 2) for m in titles)]
        for e in entries
    )
    return table(["bundle", "volume", "n", *titles.values()], lines)


def _differences(entries: Sequence[dict[str, Any]]) -> str:
    columns = _measured(entries)
    headings = ["bundle", "volume", "minus", "n"]
    headings += [
        f"{IMAGE_COLUMNS[c][0]} ({'higher' if IMAGE_COLUMNS[c][1] else 'lower'} is better)" for c in columns
    ]
    lines = (
        [
            e["bundle"],
            e["method"],
            e["minus"],
            str(max(e[c]["n"] for c in columns if c in e)),
            *(_cell(e, c, signed=True) for c in columns),
        ]
        for e in entries
    )
    return table(headings, lines)


def _classification(summary: dict[str, Any]) -> str:
    tests = {(c["bundle"], c["score"]): c for c in summary["comparisons"]}
    lines = []
    for entry in summary["classification"]:
        test = tests.get((entry["bundle"], entry["score"]))
        lines.append(
            [
                entry["bundle"],
                entry["score"],
                f"{entry['positives']} of {int(entry['auroc']['n'])}",
                interval_text(entry["auroc"]),
                interval_text(entry.get("signs"), 2),
                "-" if test is None else f"{interval_text(test['auroc'], signed=True)}, p = {test['p']:.3g}",
            ]
        )
    headings = ["bundle", "score from", "with PE", "AUROC", "correlation with the signs' log-odds"]
    return table([*headings, "AUROC minus the signs' (DeLong)"], lines)


def _decisions(entries: Sequence[dict[str, Any]]) -> str:
    rates = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
    lines = (
        [
            e["bundle"],
            str(e["n"]),
            f"{e['threshold']:.3f}",
            *(interval_text(e[rate], 2) for rate in rates),
            f"{e['brier']:.3f}",
            f"{e['ece']:.3f}",
        ]
        for e in entries
    )
    headings = ["bundle", "n", "threshold", "sensitivity", "specificity", "PPV", "NPV", "accuracy"]
    return table([*headings, "Brier score (always 0.5: 0.25)", "calibration error (10 bins)"], lines)


def _gradcam(entries: Sequence[dict[str, Any]]) -> str:
    names = ("gradcam_in_target", "gradcam_chance", "above_chance", "gradcam_in_region")
    lines = (
        [e["bundle"], str(int(e[names[0]]["n"])), *(interval_text(e[name]) for name in names)]
        for e in entries
    )
    headings = ["bundle", "patients with PE", "share in clot-bearing lobes", "chance", "above chance"]
    return table([*headings, "share of all heat in the lungs"], lines)


def _hottest(entries: Sequence[dict[str, Any]]) -> str:
    groups = [[e.get(column) for column in ("no_sign", "signs")] for e in entries]
    lines = (
        [e["bundle"], *("-" if g is None else f"{interval_text(g, 2)}, n = {int(g['n'])}" for g in group)]
        for e, group in zip(entries, groups, strict=True)
    )
    return table(["bundle", "patients without any radiographic sign", "with signs"], lines)


def _films(films: dict[str, Any]) -> str:
    lines = (
        [
            e["bundle"],
            f"{e['accepted']} of {films['films']}",
            interval_text(e["film_correlation"]),
            interval_text(e["positive"], 2),
            "-" if e["hottest"] is None else ", ".join(f"{value:.2f}" for value in e["hottest"]),
        ]
        for e in films["bundles"]
    )
    headings = ["bundle", "accepted by the gate", "correlation of one sample with the film"]
    headings += ["scored at or above the threshold", "hottest of Grad-CAM: least, median, greatest"]
    rows = table(headings, lines)
    if not films["left_out"]:
        return rows
    return f"{rows}\n\n{films['left_out']} films of the folder taught the X-ray encoder and were left out."


def _pair(pair: dict[str, Any]) -> str:
    lines = (
        [e["volume"], e["placed"], e["grey"], f"{e['psnr']:.2f}", f"{e['slice_ssim']:.3f}"]
        for e in pair["volumes"]
    )
    return table(
        ["volume", "placed", "grey 0..255 from", "PSNR dB (8 bit)", "SSIM, mean slice (8 bit)"], lines
    )


def _measured(entries: Sequence[dict[str, Any]]) -> list[str]:
    return [column for column in IMAGE_COLUMNS if any(column in entry for entry in entries)]


def _cell(entry: dict[str, Any], column: str, signed: bool) -> str:
    return interval_text(entry.get(column), DIGITS.get(column, 3), signed)
