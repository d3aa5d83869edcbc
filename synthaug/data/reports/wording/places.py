"""Words for what a finding looks like, how large it is, and where it lies."""

THINGS = {
    ("peripheral", 5): (
        "a large dark mass",
        "a bulky lesion of low T2 signal",
        "an extensive hypointense lesion",
        "a large focal lesion, markedly dark on T2",
        "a big tumour",
        "a sizeable mass with low signal",
    ),
    ("peripheral", 4): (
        "a focal hypointense lesion",
        "a rounded dark focus",
        "a well-defined lesion of low T2 signal",
        "a circumscribed dark lesion",
        "a focal lesion with low T2 signal",
        "a suspicious dark area",
    ),
    ("peripheral", 3): (
        "a poorly defined focus of moderately low signal",
        "a faint dark lesion",
        "an uncertain focal change",
        "a blurred focus with lower T2 signal",
        "an indeterminate lesion",
    ),
    ("peripheral", 2): (
        "a linear streak of low signal",
        "wedge-shaped mild signal loss",
        "mild diffuse hypointensity",
        "a thin band of slightly low signal",
        "linear non-focal darkening",
    ),
    ("transition", 5): (
        "a large lenticular mass",
        "a large smudged lesion",
        "an extensive homogeneous dark lesion",
        "a big ill-defined mass of low signal",
        "a large non-encapsulated tumour",
    ),
    ("transition", 4): (
        "a lens-shaped dark lesion",
        "a homogeneous lesion without capsule",
        "an ill-defined hypointense lesion",
        "a smudged focus of low signal",
        "a suspicious dark lesion without margin",
    ),
    ("transition", 3): (
        "a nodule with blurred margins",
        "an atypical nodule of mixed signal",
        "a partly encapsulated nodule",
        "an indeterminate nodule",
        "an unclear dark nodule",
    ),
    ("transition", 2): (
        "an encapsulated nodule",
        "a typical hyperplastic nodule",
        "a circumscribed BPH nodule",
        "a round benign nodule with a capsule",
        "a benign nodule",
    ),
}
"""What a finding looks like, by zone and category; of an unknown zone as in the peripheral one."""

MEASURES = (
    ", {size}",
    ", {size}",
    " of {size}",
    " measuring {size}",
    " ({size})",
    ", about {size}",
    " with a diameter of {size}",
    ", up to {size}",
)
"""How a diameter follows a noun."""
PLACES = (
    "{side} {level} {zone}",
    "{side} {level} {zone}",
    "{side} {zone}, {level}",
    "{side} {zone} {level_of}",
    "{zone} {side}, {level}",
    "{level} {zone} {side}",
    "{side}, {level}, {zone}",
    "{zone} of the {side} {level_of}",
    "{zone}, {level_of}, {side}",
    "{level_of}, {side} {zone}",
)
WHERE = (
    "in the {side} {zone} at the {level_of}",
    "in the {zone} of the {side} {level_of}",
    "in the {side} {level} {zone}",
    "on the {side}, in the {zone} at the {level_of}",
    "at the {level_of} in the {zone} on the {side}",
    "in the {zone}, {level}, {side}",
    "at the {side} {level_of} within the {zone}",
    "in the {side} half of the gland ({zone}, {level})",
)
PARTIAL_PLACES = {
    "": ("",),
    "s": ("{side}", "{side} side"),
    "l": ("{level_of}", "at the {level_of}"),
    "z": ("{zone}",),
    "sl": ("{side} {level_of}", "{level}, {side}"),
    "sz": ("{side} {zone}", "{zone}, {side}"),
    "lz": ("{level} {zone}", "{zone}, {level_of}"),
}
"""Keys name what is known: side, level, zone."""
PARTIAL_WHERE = {
    "": ("",),
    "s": ("on the {side}", "in the {side} half of the gland"),
    "l": ("at the {level_of}",),
    "z": ("in the {zone}",),
    "sl": ("at the {side} {level_of}", "on the {side} at the {level_of}"),
    "sz": ("in the {side} {zone}", "in the {zone} on the {side}"),
    "lz": ("in the {zone} at the {level_of}", "at the {level_of} in the {zone}"),
}
