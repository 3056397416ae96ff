"""Names in the tables of metrics that several stages share. Nothing is imported here."""

from __future__ import annotations

#: the region of both lungs
LUNGS = "lungs"
#: what images are compared with; the truth is known of simulated cases only
SPECT, TRUTH, TRUTH_VISIBLE = "spect", "truth", "truth_visible"
REFERENCES = (SPECT, TRUTH, TRUTH_VISIBLE)
#: models that are no models: what the truth is called where it is scored as if it were one
CEILINGS = {"noise_ceiling": TRUTH, "visible_ceiling": TRUTH_VISIBLE}
#: metrics that depend on a definition of low and high function
DICE_METRICS = ("dice_low", "dice_high")
#: what the tests of difference and of equivalence say together (`results/compare/pairs.tsv`)
WITHIN_MARGIN, EQUIVALENT, UNDECIDED = "different, but within the margin", "equivalent", "undecided"
DIFFERENT = ("different", WITHIN_MARGIN)
