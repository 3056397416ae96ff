# read: the reader study: design and plan, a blinded pack for each reader, and what the answers say (docs/reading.md).


rule read_design:
    output:
        design="results/read/design.json",
        plan="results/read/plan.md",
    log:
        "logs/read/design.log",
    benchmark:
        "benchmarks/read/design.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(10),
    params:
        code=code_digest("scripts/read_design.py"),
        study=config["study"],
        seed=config["seed"],
        secret=STORE.fingerprint(),
        settings=read_settings(READ_BY_DESIGN),
        cases=READ_CASES,
        readers=READERS,
        simulated_readers=config["read"]["simulated"]["readers"] > 0,
        simulated=COHORT.simulated,
        labels=labels_of_read_models(),
    script:
        "../../scripts/read_design.py"


rule read_pack:
    input:
        design="results/read/design.json",
        ct=expand("results/crop/{case}/ct.nii.gz", case=READ_CASES),
        lungs=expand("results/crop/{case}/lungs.nii.gz", case=READ_CASES),
        real_perfusion=expand("results/crop/{case}/perfusion.nii.gz", case=READ_CASES),
        real_ventilation=expand(
            "results/crop/{case}/ventilation.nii.gz", case=READ_CASES
        ),
        synthesised_perfusion=expand(
            "results/synthesize/{case}/{model}/perfusion_network.nii.gz",
            case=READ_CASES,
            model=config["read"]["models"]["perfusion"],
        ),
        synthesised_ventilation=expand(
            "results/synthesize/{case}/{model}/ventilation_network.nii.gz",
            case=READ_CASES,
            model=config["read"]["models"]["ventilation"],
        ),
    output:
        pack=directory("results/read/packs/{reader}"),
        key="results/read/keys/{reader}.tsv",
        record="results/read/keys/{reader}.json",
    log:
        "logs/read/packs/{reader}.log",
    benchmark:
        "benchmarks/read/packs/{reader}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_case=5),
        runtime=minutes(60, per_case=0.5),
    params:
        code=code_digest("scripts/read_pack.py"),
        page=folder_digest(Path(workflow.basedir) / "resources" / "read", HASH_CACHE),
        cases=list(READ_CASES),
        settings=read_settings(READ_BY_PACK),
        seed=config["seed"],
        secret=STORE.fingerprint(),
        exports=config["read"]["exports"],
    script:
        "../../scripts/read_pack.py"


rule read_simulated:
    input:
        pack="results/read/packs/{reader}",
        key="results/read/keys/{reader}.tsv",
        design="results/read/design.json",
    output:
        export="results/read/simulated/{reader}.json",
    log:
        "logs/read/simulated/{reader}.log",
    benchmark:
        "benchmarks/read/simulated/{reader}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(10),
    params:
        code=code_digest("scripts/read_simulated.py"),
        settings=config["read"]["simulated"],
        seed=config["seed"],
    script:
        "../../scripts/read_simulated.py"


# its input is called `keys_`, because `keys` is a method of Snakemake's inputs
rule read_report:
    input:
        design="results/read/design.json",
        packs=expand("results/read/packs/{reader}", reader=READERS),
        keys_=expand("results/read/keys/{reader}.tsv", reader=READERS),
        exports=reader_exports(),
    output:
        answers="results/read/answers.tsv",
        completeness="results/read/completeness.tsv",
        acceptability="results/read/acceptability.tsv",
        acceptability_pairs="results/read/acceptability_pairs.tsv",
        agreement="results/read/agreement.tsv",
        diagnosis="results/read/diagnosis.tsv",
        confusion="results/read/confusion.tsv",
        mcnemar="results/read/mcnemar.tsv",
        mrmc="results/read/mrmc.tsv",
        blinding="results/read/blinding.tsv",
        times="results/read/times.tsv",
        endpoint="results/read/endpoint.tsv",
        reading_endpoint=report(
            "results/report/figures/reading_endpoint.png",
            caption="../report/figure_reading_endpoint.rst",
            category="Readers",
            labels={"figure": "primary endpoint"},
        ),
        reading_endpoint_files=multiext(
            "results/report/figures/reading_endpoint", *BESIDE_FIGURES
        ),
        reading_accuracy=report(
            "results/report/figures/reading_accuracy.png",
            caption="../report/figure_reading_accuracy.rst",
            category="Readers",
            labels={"figure": "diagnoses by reader and source"},
        ),
        reading_accuracy_files=multiext(
            "results/report/figures/reading_accuracy", *BESIDE_FIGURES
        ),
        reading_roc=report(
            "results/report/figures/reading_roc.png",
            caption="../report/figure_reading_roc.rst",
            category="Readers",
            labels={"figure": "ROC curves of the readers"},
        ),
        reading_roc_files=multiext(
            "results/report/figures/reading_roc", *BESIDE_FIGURES
        ),
        reading_confusion=report(
            "results/report/figures/reading_confusion.png",
            caption="../report/figure_reading_confusion.rst",
            category="Readers",
            labels={"figure": "diagnoses against the reference"},
        ),
        reading_confusion_files=multiext(
            "results/report/figures/reading_confusion", *BESIDE_FIGURES
        ),
        reading_acceptability=report(
            "results/report/figures/reading_acceptability.png",
            caption="../report/figure_reading_acceptability.rst",
            category="Readers",
            labels={"figure": "acceptability"},
        ),
        reading_acceptability_files=multiext(
            "results/report/figures/reading_acceptability", *BESIDE_FIGURES
        ),
        reading_agreement=report(
            "results/report/figures/reading_agreement.png",
            caption="../report/figure_reading_agreement.rst",
            category="Readers",
            labels={"figure": "agreement between and within readers"},
        ),
        reading_agreement_files=multiext(
            "results/report/figures/reading_agreement", *BESIDE_FIGURES
        ),
        reading_blinding=report(
            "results/report/figures/reading_blinding.png",
            caption="../report/figure_reading_blinding.rst",
            category="Readers",
            labels={"figure": "guesses of the source"},
        ),
        reading_blinding_files=multiext(
            "results/report/figures/reading_blinding", *BESIDE_FIGURES
        ),
        reading_times=report(
            "results/report/figures/reading_times.png",
            caption="../report/figure_reading_times.rst",
            category="Readers",
            labels={"figure": "reading times"},
        ),
        reading_times_files=multiext(
            "results/report/figures/reading_times", *BESIDE_FIGURES
        ),
    log:
        "logs/read/report.log",
    benchmark:
        "benchmarks/read/report.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 2
    resources:
        mem_mb=memory(1500, per_case=0.5),
        runtime=minutes(30, per_case=0.1),
    params:
        code=code_digest("scripts/read_report.py"),
        seed=config["seed"],
        confidence=config["compare"]["confidence"],
        bootstrap=config["compare"]["bootstrap"],
        labels=model_labels(),
        networks=NETWORKS,
        simulated=COHORT.simulated,
        figure=config["report"]["figure"],
    script:
        "../../scripts/read_report.py"
