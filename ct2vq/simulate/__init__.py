"""Simulate a cohort with known truth, written as raw DICOM.

`anatomy` (the body in the SPECT's state) and `territories`, `trees` (how the lungs divide), `disease` (the regional
state that CT and function share), `ct` and `function` (which never read each other), `spect`, `motion`, `dicom`, and
`case` (one case from seed to files).
"""

from ct2vq.simulate.case import simulate_case

__all__ = ["simulate_case"]
