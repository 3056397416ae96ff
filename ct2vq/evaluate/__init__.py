"""Stage `evaluate`: every number that a case yields, in long tables of one fact a row.

Modules: `truth` (what a simulated patient's image should be, on the crop's grid), `regions` (parts of the lungs on the
evaluation grid), `images` (a case's images there), `scores` (agreement of two images in every region), `arms`
(perfusion and ventilation together), `curves` (histograms that curves are made of), `lesions` (defects found and
false), `case` (all of them for one case), `collect` (all cases in one table).
"""
