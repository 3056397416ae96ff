"""Stage `crop`: from volumes in patient space to what a network reads, and the way back.

The network's grid is isotropic, along the patient's axes, round the lungs with a margin. The CT is averaged onto it;
the SPECT is carried once, from its own grid through the registration's transform, freed of hot spots and divided by a
robust reference in the lungs. Nothing here knows of any other case.

Nothing is imported here, so that each job depends on its own modules only.
"""
