"""ct2vq: synthesis of lung perfusion (Q) and ventilation (V) SPECT images from CT, as a whole study.

One module for a stage of the workflow (`ct2vq.convert`, `ct2vq.register`, ...), importable without Snakemake.

One job is one process on one thread; the workflow is parallel over cases. Sums that are split over threads differ in
the last bit, so the thread counts of ITK and BLAS are set here, before any of them is imported (only if the user has
not set them).
"""

import os

__version__ = "0.1.0"

for _variable in (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
):
    os.environ.setdefault(_variable, "1")
