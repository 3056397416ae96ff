"""Names of what the analysis of the reader study writes.

Imported while Snakemake builds the DAG: no imports here.
"""

#: tables, `results/read/<name>.tsv`
TABLES = (
    "answers",
    "completeness",
    "acceptability",
    "acceptability_pairs",
    "agreement",
    "diagnosis",
    "confusion",
    "mcnemar",
    "mrmc",
    "blinding",
    "times",
    "endpoint",
)
#: tables on the report's page; the answers stay where they are: readers' comments stand in them
REPORTED = tuple(name for name in TABLES if name != "answers")
#: figures, `results/report/figures/<name>.png`
FIGURES = (
    "reading_endpoint",
    "reading_accuracy",
    "reading_roc",
    "reading_confusion",
    "reading_acceptability",
    "reading_agreement",
    "reading_blinding",
    "reading_times",
)
