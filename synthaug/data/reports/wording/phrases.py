"""Words of prostate reports. Symbols in braces are expanded by :mod:`synthaug.data.reports.wording.grammar`."""


def digits(value: float) -> str:
    """Three significant digits, and whole numbers from 100 on: 7.1, 13, 2650.

    Example:
        >>> digits(2650.2), digits(1.3)
        ('2650', '1.3')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


COMMON = {
    "history": (
        "Clinical information: PSA {psa} ng/ml",
        "PSA {psa}",
        "Indication: raised PSA ({psa} ng/ml)",
        "PSA is {psa} ng/ml, biopsy ISUP grade {grade}",
        "Earlier biopsy: ISUP {grade}",
        "Serum PSA of {psa} ng/ml",
        "Referred for a PSA of {psa}",
        "Indication: rising PSA",
        "Urinary complaints for some months",
        "Family history of prostate carcinoma",
    ),
    "technique": (
        "Technique: T2 in three planes, diffusion, contrast series",
        "Multiparametric protocol at 3 Tesla",
        "Biparametric examination without contrast medium",
        "Good image quality",
        "Slight motion on the T2 series",
        "Rectal gas degrades the diffusion images a little",
        "Comparison: none",
    ),
    "volume": (
        "Prostate volume {ml}",
        "Gland: {ml}",
        "The gland has a volume of {ml}",
        "Estimated size of the prostate {ml}",
        "Vol. {ml}",
        "The prostate is about {ml} in size",
        "Whole gland {ml}",
    ),
    "marker": ("PSA {psa} ng/ml", "PSA {psa}", "PSA level: {psa}"),
    "aside": (
        "The bladder is partly filled, its wall is regular",
        "Small fat-containing inguinal hernia",
        "Sigmoid diverticula",
        "Mild osteoarthritis of the hips",
        "Median lobe protrudes into the bladder",
        "Utricle cyst in the midline",
        "Small hydrocele",
        "Degenerative change in the lumbar spine",
        "Rectum without special findings",
        "The central gland shows nodular hyperplasia",
        "No traces of haemorrhage on T1",
        "The anterior fibromuscular stroma (AFMS) is symmetrical",
    ),
    "staging": (
        "Seminal vesicles normal",
        "Both seminal vesicles are preserved",
        "No lymph node enlargement in the pelvis",
        "Nodes: not enlarged",
        "No bone metastases in the imaged skeleton",
        "Pelvic bones inconspicuous",
        "AFMS not involved",
        "No pelvic adenopathy, seminal vesicles free",
    ),
    "score": (
        "PI-RADS #",
        "PI-RADS #",
        "PI-RADS #",
        "PIRADS #",
        "PI-RADS category #",
        "PI-RADS score #",
        "PI-RADS: #",
        "PI-RADS v2.1 score #",
        "PI-RADS v2.1: #",
        "PI-RADS #/5",
        "Pi-Rads #",
        "PI RADS #",
        "PR #",
    ),
    "loose": ("category #", "score #", "overall #", "score of #", "assessment category #", "grade of suspicion #/5"),
    "rated": ("{score}", "{score}", "{score}", "{loose}", "{score} ({risk})", "{score}, {risk}", "{risk}, {score}"),
    "head": ("Impression: ", "IMPRESSION: ", "Conclusion: ", "Summary: ", "Assessment: ", "", "", ""),
    "conclusion": (
        "{head}{rated}",
        "{head}{rated}, {place}",
        "{head}{place}, {rated}",
        "{head}{place}: {rated}",
        "{head}{rated} for the finding {where}",
        "Overall assessment: {score}",
        "This corresponds to {score}",
        "The examination is rated {score}",
        "I rate this {loose}",
        "Therefore {score}",
    ),
    "hedge": ("{belief}",),
    "opinion": (
        "I would give it {score}",
        "In my view {score}, {risk}",
        "My rating is {loose}",
        "{belief} I call it {score}",
        "I conclude with {score}",
    ),
    "entry_score": (
        "{score}",
        "Overall: {score}",
        "Rating: {loose}",
        "Score: {score}",
        "Suspicion: {risk} ({score})",
    ),
}
"""Rules that do not depend on what is found."""

RISKS = {
    1: ("very low suspicion", "cancer very unlikely", "unremarkable", "no sign of malignancy"),
    2: ("low suspicion", "cancer unlikely", "probably benign", "likely benign"),
    3: ("equivocal", "intermediate suspicion", "indeterminate", "unclear dignity"),
    4: ("high suspicion", "cancer likely", "suspicious for significant cancer", "probably malignant"),
    5: ("very high suspicion", "cancer very likely", "highly suspicious", "almost certainly malignant"),
}
"""How likely a clinically significant cancer is, by category."""
BELIEFS = {
    1: (
        "Significant cancer is very unlikely.",
        "As far as can be judged there is no cancer.",
        "I have no reason to suspect cancer.",
    ),
    2: (
        "This is most likely benign.",
        "Cancer seems unlikely here.",
        "It appears to be benign, as far as one can tell.",
        "Malignancy is not favoured.",
    ),
    3: (
        "A malignant cause is possible but not certain.",
        "Whether this is cancer remains open.",
        "It may be inflammation, it may be cancer.",
        "Significance uncertain.",
    ),
    4: (
        "This probably represents cancer.",
        "Malignancy is suspected.",
        "A significant cancer seems likely.",
        "It could be benign, though cancer is more probable.",
    ),
    5: (
        "This is almost certainly cancer.",
        "There is hardly any doubt that this is malignant.",
        "Appearances strongly favour cancer.",
        "A significant cancer must be assumed.",
    ),
}
"""Whole sentences that hedge, by category."""
