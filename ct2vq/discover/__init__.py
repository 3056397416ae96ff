"""Finding the images of a study in a raw export: an inventory of every file, and a proposal of the cohort table.

Nothing is imported here: `ct2vq.discover.resolve` is used while Snakemake builds the DAG.
"""
