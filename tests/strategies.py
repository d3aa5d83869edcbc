"""Hypothesis strategies that several tests draw from."""

from hypothesis import strategies as st

from synthaug.data.reports.writers import ProstateFindings

FINDINGS = st.builds(
    ProstateFindings,
    pirads=st.integers(1, 5),
    zone=st.sampled_from(["peripheral", "transition", None]),
    side=st.sampled_from(["left", "right", None]),
    level=st.sampled_from(["base", "midgland", "apex", None]),
    size_mm=st.none() | st.floats(3, 60),
    psa=st.none() | st.floats(0.1, 400),
    gland_volume_ml=st.none() | st.floats(10, 300),
    isup=st.none() | st.integers(0, 5),
)
"""What a prostate report can be of."""
