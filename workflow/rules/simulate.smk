# simulate: a patient whose anatomy, disease, function and motion are known, written as raw DICOM.


rule simulate:
    output:
        dicom=directory("results/simulate/{case}/dicom"),
        truth=directory("results/simulate/{case}/truth"),
        manifest="results/simulate/{case}/manifest.json",
    log:
        "logs/simulate/{case}.log",
    benchmark:
        "benchmarks/simulate/{case}.tsv"
    conda:
        (
            "../../envs/osem.yaml"
            if config["simulate"]["spect"]["fidelity"] == "osem"
            else "../../envs/imaging.yaml"
        )
    threads: 1
    resources:
        # truth is kept whole until it is written
        mem_mb=memory(2000, per_megavoxel=60),
        runtime=minutes(30, per_megavoxel=0.2),
    params:
        code=code_digest("scripts/simulate.py"),
        patient=lambda wildcards: COHORT[wildcards.case].patient_id,
        diagnosis=lambda wildcards: COHORT[wildcards.case].attributes["diagnosis"],
        seed=config["seed"],
        settings={
            key: config["simulate"][key]
            for key in config["simulate"]
            if key != "cases"
        },
    script:
        "../../scripts/simulate.py"
