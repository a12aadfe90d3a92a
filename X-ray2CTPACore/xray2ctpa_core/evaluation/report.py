"""An evaluation's summary as Markdown: people first, then virtual patients, PE, Grad-CAM and real images."""

from collections.abc import Sequence
from typing import Any

from xray2ctpa_core.evaluation.columns import PATIENT_COLUMNS, PEOPLE_COLUMNS, VOLUME_COLUMNS
from xray2ctpa_core.evaluation.markdown import table
from xray2ctpa_core.metrics.intervals import Interval

NAN = float("nan")
NOTES = (
    "Mean [95 % interval]; intervals of means and paired differences by Student's t over patients, of "
    "AUROCs by DeLong on the logit scale, of rates by Wilson, of correlations of scores by Fisher; [-]: no "
    "interval, for one value alone or equal ones; n where fewer patients than in the row could be measured. "
    "The signs' log-odds are the best that a radiograph could say of PE: labels agree with them in about two "
    "of three patients. SSIM and PSNR in the bundle's HU window unless stated. Perceptual distances: every "
    "fourth axial slice. Dice: lungs and contrast-filled heart with great vessels (above 150 HU), found by "
    "one fixed rule in both volumes; frontal: of their shadows from the front. Grad-CAM: share of the lungs' "
    "heat inside clot-bearing lobes; chance is those lobes' share of the lungs."
)
CORRELATION_NOTE = (
    "Correlation with the radiograph: of the volume's frontal projection, by parallel rays or by the "
    "diverging rays of a PA radiograph (perspective), with the radiograph's frame, greys of both equalised. "
    "It is a check and no quality, and the patient's own CT is not its ceiling: a bundle that aligns moves "
    "each sample until its projection agrees with the radiograph, and so samples may lie above the own CT, "
    "whose projection has neither the radiograph's scatter nor its grey curve; the baselines and the row "
    "without alignment are not moved."
)
FRECHET_NOTE = (
    "Fréchet distances between the set of volumes and the patients' own, with jackknife t intervals over "
    "patients. They grow as patients get fewer: compare rows of equal n only."
)
PEOPLE_NOTE = (
    "Real people's CTs; the radiograph is computed from each CT without its contrast medium, in perspective, "
    "and the true frame is given. Baselines: of the other people in the folder. Beyond a scan's edges its "
    "outermost voxels are repeated. Heart and chambers: of people with contrast medium alone. Spread: root "
    "mean square over the volume of the samples' standard deviation; over error: 1 where samples are drawn "
    "as the truth is, below 1 where they are too sure."
)


OPEN_PAIRS_NOTE = (
    "Real radiographs and CTs of the same patients, each framed by its own lungs: they differ in "
    "inspiration, arms and posture, so that voxels compare anatomy only roughly. Baselines: of the pairs "
    "outside the test split. Chance for the last column of the table of right and wrong patients is 0.5. "
    "Aligned: the volume's lungs were laid over the CT's by one scale and one shift, and its heart with them."
)


#: Heading, digits, whether it has a sign.
ORGAN_COLUMNS = {
    "lung_dice": ("lung Dice, aligned", 3, False),
    "heart_dice": ("heart Dice, aligned", 3, False),
    "lung_ml": ("lungs, ml", 0, False),
    "heart_ml": ("heart, ml", 0, False),
    "lung_difference": ("lungs, relative difference", 2, True),
    "heart_difference": ("heart, relative difference", 2, True),
}


def markdown(summary: dict[str, Any]) -> str:
    """The whole report."""
    parts: list[str] = []
    people = summary.get("people")
    if people is not None:
        parts += ["## Unseen people", *_people(people)]
    for pairs in summary.get("open_pairs", []):
        parts += ["## Open pairs, test split", *_open_pairs(pairs)]
    if summary["images"]:
        parts += ["## Virtual patients: volumes", _images(summary["images"], PATIENT_COLUMNS)]
    if summary.get("frechet"):
        parts += ["## Sets of volumes", _frechet(summary["frechet"], summary["features"]), FRECHET_NOTE]
    if summary["differences"]:
        parts += ["## Paired differences", _differences(summary["differences"], PATIENT_COLUMNS)]
    if summary["classification"]:
        parts += ["## Pulmonary embolism", _classification(summary)]
        parts += ["What a result says (probability of one sample, at the bundle's threshold):"]
        parts += [_decisions(summary["decisions"])]
    if summary["gradcam"]:
        parts += ["## Grad-CAM", _gradcam(summary["gradcam"])]
    if summary["hottest"]:
        parts += ["Greatest value of a sample's Grad-CAM, 0 to 1:", _hottest(summary["hottest"])]
    for radiographs in summary.get("radiographs", []):
        parts += [f"## Real radiographs: {radiographs['folder']}", _radiographs(radiographs)]
    for pair in summary.get("pairs", []):
        parts += [f"## Real pair {pair['pair']}", _pair(pair), pair["note"]]
    return "\n\n".join([*parts, NOTES, CORRELATION_NOTE]) + "\n"


def interval_text(value: dict[str, Any] | None, digits: int = 3, signed: bool = False, of: int = 0) -> str:
    """``estimate [lower, upper]``, with ``n`` if it is not ``of``; a dash if nothing was measured."""
    if value is None:
        return "-"
    ends = [NAN if value[key] is None else value[key] for key in ("lower", "upper")]
    text = Interval(value["estimate"], *ends).text(digits, signed)
    return f"{text}, n = {value['n']}" if of and value["n"] != of else text


def _people(people: dict[str, Any]) -> list[str]:
    parts = [_images(people["images"], PEOPLE_COLUMNS)]
    if people["frechet"]:
        parts += [_frechet(people["frechet"], people["features"]), FRECHET_NOTE]
    if people["differences"]:
        parts += ["Paired differences:", _differences(people["differences"], PEOPLE_COLUMNS)]
    for bundle, names in people["people"].items():
        taught = people["left_out"][bundle]
        text = f"{bundle} was measured on {', '.join(names)}"
        enhanced = [name for name in names if name in people["enhanced"]]
        text += f"; with contrast medium: {', '.join(enhanced) or 'none'}"
        text += f"; left out, for they taught it: {', '.join(taught) or 'none of the folder'}."
        parts.append(text)
    return [*parts, PEOPLE_NOTE]


def _open_pairs(pairs: dict[str, Any]) -> list[str]:
    headings = ["bundle", "n", "with the own CT", "with the others'", "others that it fits less"]
    lines = [
        [
            e["bundle"],
            str(e["right"]["n"]),
            *(interval_text(e[key], 2) for key in ("right", "wrong", "share")),
        ]
        for e in pairs["matches"]
    ]
    parts = [_images(pairs["images"], PEOPLE_COLUMNS)]
    if pairs["frechet"]:
        parts += [_frechet(pairs["frechet"], pairs["features"]), FRECHET_NOTE]
    if pairs["differences"]:
        parts += ["Paired differences:", _differences(pairs["differences"], PEOPLE_COLUMNS)]
    parts += ["Right patient against wrong ones, correlation of volumes:", table(headings, lines)]
    parts += ["Lungs and heart:", _organs(pairs["organs"]), OPEN_PAIRS_NOTE]
    digests = f"selection {(pairs['selection'] or 'none')[:12]}, studies {pairs['cohort'][:12]}"
    return [*parts, f"Protocol {pairs['protocol']}; {len(pairs['pairs'])} pairs; {digests}."]


def _organs(entries: Sequence[dict[str, Any]]) -> str:
    headings = ["bundle", "volume", "n", *(heading for heading, *_ in ORGAN_COLUMNS.values())]
    lines = (
        [
            e["bundle"],
            e["method"],
            str(e["patients"]),
            *(
                interval_text(e.get(column), digits, signed, e["patients"])
                for column, (_, digits, signed) in ORGAN_COLUMNS.items()
            ),
        ]
        for e in entries
    )
    return table(headings, lines)


def _images(entries: Sequence[dict[str, Any]], wanted: Sequence[str]) -> str:
    columns = _measured(entries, wanted)
    headings = ["bundle", "volume", "n", *(VOLUME_COLUMNS[c].heading for c in columns)]
    lines = (
        [e["bundle"], e["method"], str(e["patients"]), *(_cell(e, c, e["patients"]) for c in columns)]
        for e in entries
    )
    return table(headings, lines)


def _frechet(entries: Sequence[dict[str, Any]], titles: dict[str, str]) -> str:
    lines = (
        [e["bundle"], e["method"], str(e["patients"]), *(interval_text(e.get(m), 2) for m in titles)]
        for e in entries
    )
    return table(["bundle", "volume", "n", *titles.values()], lines)


def _differences(entries: Sequence[dict[str, Any]], wanted: Sequence[str]) -> str:
    columns = _measured(entries, wanted)
    headings = ["bundle", "volume", "minus", "n", *(VOLUME_COLUMNS[c].signed_heading for c in columns)]
    lines = []
    for e in entries:
        count = max(e[c]["n"] for c in columns if c in e)
        cells = (_cell(e, c, count, signed=True) for c in columns)
        lines.append([e["bundle"], e["method"], e["minus"], str(count), *cells])
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
            "-" if e["threshold"] is None else f"{e['threshold']:.3f}",
            *(interval_text(e.get(rate), 2) for rate in rates),
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


def _radiographs(radiographs: dict[str, Any]) -> str:
    lines = (
        [
            e["bundle"],
            f"{e['accepted']} of {radiographs['radiographs']}",
            interval_text(e["perspective_correlation"]),
            interval_text(e["positive"], 2),
            "-" if e["hottest"] is None else ", ".join(f"{value:.2f}" for value in e["hottest"]),
        ]
        for e in radiographs["bundles"]
    )
    headings = [
        "bundle",
        "accepted by the gate",
        "correlation of one sample with the radiograph, perspective",
    ]
    headings += ["scored at or above the threshold", "hottest of Grad-CAM: least, median, greatest"]
    rows = table(headings, lines)
    if not radiographs["left_out"]:
        return rows
    left = f"{radiographs['left_out']} radiographs of the folder taught the encoder and were left out."
    return f"{rows}\n\n{left}"


def _pair(pair: dict[str, Any]) -> str:
    lines = (
        [e["volume"], e["placed"], e["grey"], f"{e['psnr']:.2f}", f"{e['slice_ssim']:.3f}"]
        for e in pair["volumes"]
    )
    return table(
        ["volume", "placed", "grey 0..255 from", "PSNR dB (8 bit)", "SSIM, mean slice (8 bit)"], lines
    )


def _measured(entries: Sequence[dict[str, Any]], wanted: Sequence[str]) -> list[str]:
    return [column for column in wanted if any(column in entry for entry in entries)]


def _cell(entry: dict[str, Any], column: str, count: int, signed: bool = False) -> str:
    return interval_text(entry.get(column), VOLUME_COLUMNS[column].digits, signed, count)
