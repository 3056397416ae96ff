"""Stage `compare`: statistics over patients. They read tables, never images.

The unit is the patient: seeds, and then the cases of a patient, are averaged before anything is tested. `scores` reads
the table of `evaluate`, `paired` holds the statistics of one comparison; `pairs`, `passes`, `summary` and `excluded`
make a table each, `universe` the comparisons under other choices, and `study` writes what the rule `compare` promises.
Nothing is imported here, so that each job depends on its own modules only.
"""
