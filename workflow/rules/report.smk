# report: figures, tables and one page to open. Nothing here computes a result.


rule report_case:
    input:
        unpack(ct_images),
        ct="results/convert/{case}/ct.nii.gz",
        lungs="results/segment/{case}/ct_lungs.nii.gz",
    output:
        panel=report(
            "results/report/figures/cases/{case}.png",
            caption="../report/case.rst",
            category="Cases",
            labels={"case": "{case}", "figure": "images"},
        ),
    log:
        "logs/report/cases/{case}.log",
    benchmark:
        "benchmarks/report/cases/{case}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=code_digest("scripts/report_case.py"),
        labels=model_labels(),
        networks=NETWORKS,
        diagnosis=lambda wildcards: COHORT[wildcards.case].attributes.get(
            "diagnosis", "unknown"
        ),
        simulated=COHORT.simulated,
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_case.py"


rule report_registration:
    input:
        unpack(overlay_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        lungs="results/segment/{case}/ct_lungs.nii.gz",
        ct_to_spect="results/register/{case}/ct_to_spect.nii.gz",
        qc="results/register/{case}/qc.json",
    output:
        overlay=report(
            "results/report/figures/registration/{case}.png",
            caption="../report/registration.rst",
            category="Registration",
            labels={"case": "{case}", "figure": "before and after"},
        ),
    log:
        "logs/report/registration/{case}.log",
    benchmark:
        "benchmarks/report/registration/{case}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=code_digest("scripts/report_registration.py"),
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_registration.py"


use rule report_registration as report_registration_alone with:
    input:
        unpack(overlay_inputs),
        ct="results/convert/{case}/ct.nii.gz",
        lungs="results/segment/{case}/ct_lungs.nii.gz",
        ct_to_spect=ct_to_spect,
        qc="results/register/{case}/{target}_qc.json",
    output:
        overlay=report(
            "results/report/figures/registration/{case}/{target}.png",
            caption="../report/registration.rst",
            category="Registration",
            labels={"case": "{case}", "figure": "before and after, {target}"},
        ),
    log:
        "logs/report/registration/{case}/{target}.log",
    benchmark:
        "benchmarks/report/registration/{case}/{target}.tsv"


rule report_registrations:
    input:
        qc=registrations(
            lambda case, target: registration_file(case, target, "qc.json")
        ),
        overlays=registrations(registration_overlay),
        quality="results/register/quality.tsv",
    output:
        page="results/report/registration.html",
    log:
        "logs/report/registrations.log",
    benchmark:
        "benchmarks/report/registrations.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_digest("scripts/report_registrations.py"),
        template=folder_digest(
            Path(workflow.basedir) / "resources" / "report", HASH_CACHE
        ),
        title=config["report"]["title"],
        simulated=COHORT.simulated,
        modulated=config["register"]["modulate"],
    script:
        "../../scripts/report_registrations.py"


rule report_crop:
    input:
        unpack(normalised_inputs),
        ct="results/crop/{case}/ct.nii.gz",
        lungs="results/crop/{case}/lungs.nii.gz",
    output:
        figure=report(
            "results/report/figures/crop/{case}.png",
            caption="../report/crop.rst",
            category="Normalisation",
            labels={"case": "{case}", "figure": "SPECT before and after"},
        ),
    log:
        "logs/report/crop/{case}.log",
    benchmark:
        "benchmarks/report/crop/{case}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_digest("scripts/report_crop.py"),
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_crop.py"


rule report_figures:
    input:
        metrics="results/evaluate/metrics.tsv",
        pairs="results/compare/pairs.tsv",
        folds="results/split/folds.tsv",
        histories=expand(
            "results/train/{model}/fold{fold}/history.tsv",
            model=NETWORKS,
            fold=FOLD_NUMBERS,
        ),
    output:
        metrics=report(
            "results/report/figures/metrics.png",
            caption="../report/boxplots.rst",
            category="Results",
            labels={"figure": "metrics of every model"},
        ),
        training=report(
            "results/report/figures/training.png",
            caption="../report/training.rst",
            category="Training",
            labels={"figure": "training curves"},
        ),
        cohort=report(
            "results/report/figures/cohort.png",
            caption="../report/cohort.rst",
            category="Cohort",
            labels={"figure": "cohort flow"},
        ),
    log:
        "logs/report/figures.log",
    benchmark:
        "benchmarks/report/figures.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_digest("scripts/report_figures.py"),
        labels=model_labels(),
        networks=NETWORKS,
        definition=config["evaluate"]["function_thresholds"][0]["name"],
        flow=cohort_flow(),
        simulated=COHORT.simulated,
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_figures.py"


rule report:
    input:
        summary="results/compare/summary.tsv",
        pairs="results/compare/pairs.tsv",
        baselines="results/compare/baselines.tsv",
        metrics="results/evaluate/metrics.tsv",
        folds="results/split/folds.tsv",
        qc=registrations(
            lambda case, target: registration_file(case, target, "qc.json")
        ),
        noticed=[
            *(
                f"results/segment/{case.case_id}/{volume}_lungs.json"
                for case in COHORT.cases
                for volume in sorted(
                    {"ct", *filter(None, map(case.attenuation_ct, case.targets))}
                )
            ),
            *(
                f"results/crop/{case.case_id}/{name}.json"
                for case in COHORT.cases
                for name in ("crop", *case.targets)
            ),
            # nothing else asks for the lobes of simulated patients
            *expand(
                "results/segment/{case}/ct_lobes.json",
                case=COHORT.case_ids if COHORT.simulated and not BACKEND_LOBES else [],
            ),
        ],
        runs=expand(
            "results/train/{model}/fold{fold}/run.json",
            model=MODELS,
            fold=FOLD_NUMBERS,
        ),
        figures=[
            "results/report/figures/metrics.png",
            "results/report/figures/training.png",
            "results/report/figures/cohort.png",
        ],
        panels=expand("results/report/figures/cases/{case}.png", case=COHORT.case_ids),
        normalised=expand(
            "results/report/figures/crop/{case}.png", case=COHORT.case_ids
        ),
        registrations="results/report/registration.html",
    output:
        page="results/report/index.html",
        config="results/report/effective_config.yaml",
    log:
        "logs/report/page.log",
    benchmark:
        "benchmarks/report/page.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code_digest("scripts/report.py"),
        template=folder_digest(
            Path(workflow.basedir) / "resources" / "report", HASH_CACHE
        ),
        published=folder_digest(
            Path(workflow.basedir) / "resources" / "published.tsv", HASH_CACHE
        ),
        labels=model_labels(),
        cases=case_facts(),
        flow=cohort_flow(),
        simulated=COHORT.simulated,
        config=config_to_show(),
    script:
        "../../scripts/report.py"
