"""Stage `synthesize`: images of a case by every model, on the network's grid and back on the CT's.

A model is a safetensors file (no code runs when it is read) with a header that says what it is and how its input was
prepared. Images have values 0..1 in the lungs (relative to the SPECT's robust maximum) and 0 outside, and say
SYNTHETIC, RESEARCH ONLY in their NIfTI header and record. Modules: `case` (the stage), `header`, `predict`, `views`
(test-time augmentation), `windows` (volumes that do not fit memory), `uncertainty`.
"""
