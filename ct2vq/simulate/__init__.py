"""Simulate a cohort with known truth, written as raw DICOM.

`anatomy`, `chest` (the body in the SPECT's state) and `units`, `trees` (how the lungs divide), `disease` (the regional
state that CT and function share), `ct` and `function` (which never read each other) under the laws of a `world`,
`motion`, `spect`, `noise`, `osem`, `identity`, `dicom`, `truth`, and `case` (one case from seed to files). `real_ct`
puts known function on a real CT; `realism` and `ceilings` measure the cohort.
"""

from ct2vq.simulate.case import simulate_case

__all__ = ["simulate_case"]
