"""The items of Wells, YEARS and PERC, and the sources of rules and numbers."""

from dataclasses import dataclass

#: Sources of rules and numbers, by a short name.
SOURCES = {
    "Wells": "Wells et al., Thromb Haemost 2000;83:416",
    "Wells tiers": "12.1 % PE in the lower of two tiers, about 37 % in the upper (MDCalc, Wells' Criteria)",
    "age-adjusted": "Righini et al. (ADJUST-PE), JAMA 2014;311:1117",
    "YEARS": "van der Hulle et al., Lancet 2017;390:289",
    "YEARS caution": "PubMed 32869501: under 1000 but over the age-adjusted cut-off, 6.3 % had PE",
    "PERC": "Kline et al., J Thromb Haemost 2004;2:1247",
    "pathway": "NICE NG158; ESC guideline 2019: Wells above 4 goes to CTPA without D-dimer",
    "X-ray2CTPA": "Cahan et al., arXiv:2406.16109, Figure 10: adjunct to Wells, not a replacement of CT",
}


@dataclass(frozen=True)
class Criterion:
    """An item of a rule.

    Attributes:
        name: identifier.
        text: shown to the clinician.
        points: of the Wells score; 0 for items of other rules.
        years: whether it is also one of YEARS' three items.
    """

    name: str
    text: str
    points: float = 0.0
    years: bool = False


WELLS = (
    Criterion("dvt_signs", "Clinical signs of DVT", 3.0, years=True),
    Criterion("pe_most_likely", "PE the most likely diagnosis, or as likely", 3.0, years=True),
    Criterion("heart_rate", "Heart rate over 100 per minute", 1.5),
    Criterion("immobile", "Immobile 3 days or more, or surgery in 4 weeks", 1.5),
    Criterion("former_vte", "Earlier DVT or PE", 1.5),
    Criterion("haemoptysis", "Haemoptysis", 1.0, years=True),
    Criterion("cancer", "Cancer, treated within 6 months or palliative", 1.0),
)
#: All eight must be true.
PERC = (
    Criterion("under_50", "Younger than 50 years"),
    Criterion("pulse_under_100", "Pulse under 100 per minute"),
    Criterion("oxygen_95", "Oxygen saturation 95 % or more"),
    Criterion("no_haemoptysis", "No haemoptysis"),
    Criterion("no_oestrogen", "No oestrogen"),
    Criterion("no_former_vte", "No earlier DVT or PE"),
    Criterion("no_leg_swelling", "No one-sided leg swelling"),
    Criterion("no_surgery", "No surgery or trauma with admission in 4 weeks"),
)
#: Items of PERC and the items of WELLS that contradict them.
CONTRADICTIONS = {
    "pulse_under_100": "heart_rate",
    "no_haemoptysis": "haemoptysis",
    "no_former_vte": "former_vte",
    "no_leg_swelling": "dvt_signs",
}
#: WELLS item that contradicts the low gestalt that PERC requires.
NOT_LOW = "pe_most_likely"
#: Age in years from which the first item of PERC does not hold.
PERC_AGE = 50
