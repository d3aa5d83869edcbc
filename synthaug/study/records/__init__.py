"""What a study found, as records: written to JSON and read back here, whatever version of synthaug wrote the files.

``summary.json`` keeps the keys that it had before there were records; further fields stand beside them.
"""

from synthaug.study.records.arms import Arm, Contrast
from synthaug.study.records.cells import CellRecord, Prediction, tested_patients
from synthaug.study.records.fields import SCHEMA, STAGES, Estimate, library_versions, setting_words
from synthaug.study.records.findings import Finding
from synthaug.study.records.summaries import ImageComparison, Subgroup, Summary, read_summary
from synthaug.study.records.verdicts import Verdict, judge

__all__ = [
    "SCHEMA",
    "STAGES",
    "Arm",
    "CellRecord",
    "Contrast",
    "Estimate",
    "Finding",
    "ImageComparison",
    "Prediction",
    "Subgroup",
    "Summary",
    "Verdict",
    "judge",
    "library_versions",
    "read_summary",
    "setting_words",
    "tested_patients",
]
