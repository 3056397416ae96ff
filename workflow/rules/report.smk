# report: figures, tables and one page to open. Nothing here computes a result.


rule report_registration:
    input:
        files=lambda wildcards: files_of(registration_files(wildcards)),
    output:
        figures=report(
            directory("results/report/figures/registration/{portion}"),
            patterns=["{name}.png"],
            caption="../report/registration.rst",
            category="Registration",
            labels={"case": "{name}", "figure": "before and after"},
        ),
    log:
        "logs/report/registration/{portion}.log",
    benchmark:
        "benchmarks/report/registration/{portion}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=20),
        runtime=minutes(30, per_megavoxel=1),
    params:
        code=code_digest("scripts/report_registration.py"),
        cases=registration_files,
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_registration.py"


rule report_crop:
    input:
        files=lambda wildcards: files_of(normalisation_files(wildcards)),
    output:
        figures=report(
            directory("results/report/figures/crop/{portion}"),
            patterns=["{name}.png"],
            caption="../report/crop.rst",
            category="Normalisation",
            labels={"case": "{name}", "figure": "SPECT before and after"},
        ),
    log:
        "logs/report/crop/{portion}.log",
    benchmark:
        "benchmarks/report/crop/{portion}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=20),
        runtime=minutes(30, per_megavoxel=1),
    params:
        code=code_digest("scripts/report_crop.py"),
        cases=normalisation_files,
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_crop.py"


rule report_case:
    input:
        files=lambda wildcards: files_of(picture_files(wildcards)),
    output:
        volumes=directory("results/report/volumes/{portion}"),
        cases=report(
            directory("results/report/figures/cases/{portion}"),
            patterns=["{name}.png"],
            caption="../report/case.rst",
            category="Cases",
            labels={"case": "{name}", "figure": "images"},
        ),
    log:
        "logs/report/cases/{portion}.log",
    benchmark:
        "benchmarks/report/cases/{portion}.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_megavoxel=20),
        runtime=minutes(30, per_megavoxel=1),
    params:
        code=code_digest("scripts/report_case.py"),
        cases=picture_files,
        labels=model_labels(),
        networks=NETWORKS,
        arms=vq_arms({name: MODELS[name] for name in NETWORKS}),
        defects=config["evaluate"]["defects"],
        diagnoses=lambda wildcards: {
            case: COHORT[case].attributes.get("diagnosis", "unknown")
            for case in PORTIONS[wildcards.portion]
        },
        simulated=COHORT.simulated,
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_case.py"


rule report_registrations:
    input:
        qc=registrations(
            lambda case, target: registration_file(case, target, "qc.json")
        ),
        overlays=of_portions("results/report/figures/registration"),
        quality="results/register/quality.tsv",
    output:
        page="results/report/registration.html",
        table="results/report/registration.tsv",
    log:
        "logs/report/registrations.log",
    benchmark:
        "benchmarks/report/registrations.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_case=0.5),
        runtime=minutes(10, per_case=0.01),
    params:
        code=code_digest("scripts/report_registrations.py"),
        overlays=registrations(partial(case_figure, "registration")),
        template=folder_digest(
            Path(workflow.basedir) / "resources" / "report", HASH_CACHE
        ),
        title=config["report"]["title"],
        simulated=COHORT.simulated,
        modulated=config["register"]["modulate"],
    script:
        "../../scripts/report_registrations.py"


rule report_figures:
    input:
        metrics="results/evaluate/metrics.tsv",
        density=expand("results/evaluate/density/{case}.tsv", case=COHORT.case_ids),
        pairs="results/compare/pairs.tsv",
        passes="results/compare/passes.tsv",
        sensitivity="results/compare/sensitivity.tsv",
        roc="results/compare/roc.tsv",
        detection="results/compare/detection.tsv",
        calibration="results/compare/calibration.tsv",
        defects="results/compare/defects.tsv",
        quality="results/register/quality.tsv",
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
        metrics_files=multiext("results/report/figures/metrics", *BESIDE_FIGURES),
        bland_altman=report(
            "results/report/figures/bland_altman.png",
            caption="../report/figure_bland_altman.rst",
            category="Results",
            labels={"figure": "function of lungs, thirds, lobes"},
        ),
        bland_altman_files=multiext(
            "results/report/figures/bland_altman", *BESIDE_FIGURES
        ),
        threshold_curves=report(
            "results/report/figures/threshold_curves.png",
            caption="../report/figure_threshold_curves.rst",
            category="Results",
            labels={"figure": "Dice at every threshold"},
        ),
        threshold_curves_files=multiext(
            "results/report/figures/threshold_curves", *BESIDE_FIGURES
        ),
        density=report(
            "results/report/figures/density.png",
            caption="../report/figure_density.rst",
            category="Results",
            labels={"figure": "values of all voxels"},
        ),
        density_files=multiext("results/report/figures/density", *BESIDE_FIGURES),
        calibration=report(
            "results/report/figures/calibration.png",
            caption="../report/figure_calibration.rst",
            category="Results",
            labels={"figure": "calibration"},
        ),
        calibration_files=multiext(
            "results/report/figures/calibration", *BESIDE_FIGURES
        ),
        passes=report(
            "results/report/figures/passes.png",
            caption="../report/figure_passes.rst",
            category="Results",
            labels={"figure": "patients that pass"},
        ),
        passes_files=multiext("results/report/figures/passes", *BESIDE_FIGURES),
        sensitivity=report(
            "results/report/figures/sensitivity.png",
            caption="../report/figure_sensitivity.rst",
            category="Results",
            labels={"figure": "pairs under other choices"},
        ),
        sensitivity_files=multiext(
            "results/report/figures/sensitivity", *BESIDE_FIGURES
        ),
        roc=report(
            "results/report/figures/roc.png",
            caption="../report/figure_roc.rst",
            category="Detection",
            labels={"figure": "ROC curves"},
        ),
        roc_files=multiext("results/report/figures/roc", *BESIDE_FIGURES),
        precision_recall=report(
            "results/report/figures/precision_recall.png",
            caption="../report/figure_precision_recall.rst",
            category="Detection",
            labels={"figure": "precision and recall"},
        ),
        precision_recall_files=multiext(
            "results/report/figures/precision_recall", *BESIDE_FIGURES
        ),
        defects=report(
            "results/report/figures/defects.png",
            caption="../report/figure_defects.rst",
            category="Detection",
            labels={"figure": "defects found and invented"},
        ),
        defects_files=multiext("results/report/figures/defects", *BESIDE_FIGURES),
        case_level=report(
            "results/report/figures/case_level.png",
            caption="../report/figure_case_level.rst",
            category="Detection",
            labels={"figure": "defect volumes by diagnosis"},
        ),
        case_level_files=multiext("results/report/figures/case_level", *BESIDE_FIGURES),
        registration=report(
            "results/report/figures/registration.png",
            caption="../report/figure_registration.rst",
            category="Registration",
            labels={"figure": "quality over the cohort"},
        ),
        registration_files=multiext(
            "results/report/figures/registration", *BESIDE_FIGURES
        ),
        training=report(
            "results/report/figures/training.png",
            caption="../report/training.rst",
            category="Training",
            labels={"figure": "training curves"},
        ),
        training_files=multiext("results/report/figures/training", *BESIDE_FIGURES),
        cohort=report(
            "results/report/figures/cohort.png",
            caption="../report/cohort.rst",
            category="Cohort",
            labels={"figure": "cohort flow"},
        ),
        cohort_files=multiext("results/report/figures/cohort", *BESIDE_FIGURES),
    log:
        "logs/report/figures.log",
    benchmark:
        "benchmarks/report/figures.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 2
    resources:
        mem_mb=memory(1500, per_case=3),
        runtime=minutes(20, per_case=0.1),
    params:
        code=code_digest("scripts/report_figures.py"),
        labels=model_labels(),
        networks=NETWORKS,
        definition=config["evaluate"]["function_thresholds"][0]["name"],
        flow=cohort_flow(),
        diagnoses={
            case.case_id: case.attributes["diagnosis"]
            for case in COHORT.cases
            if "diagnosis" in case.attributes
        },
        flags=config["register"]["flags"],
        pairs=config["compare"]["pairs"],
        confidence=config["compare"]["confidence"],
        simulated=COHORT.simulated,
        figure=config["report"]["figure"],
    script:
        "../../scripts/report_figures.py"


rule report:
    input:
        **reading_inputs(),
        summary="results/compare/summary.tsv",
        pairs="results/compare/pairs.tsv",
        baselines="results/compare/baselines.tsv",
        excluded="results/compare/excluded.tsv",
        passes="results/compare/passes.tsv",
        mcnemar="results/compare/mcnemar.tsv",
        sensitivity="results/compare/sensitivity.tsv",
        detection="results/compare/detection.tsv",
        calibration="results/compare/calibration.tsv",
        defects="results/compare/defects.tsv",
        metrics="results/evaluate/metrics.tsv",
        folds="results/split/folds.tsv",
        acquisitions="results/convert/cohort.tsv",
        sidecars=[
            f"results/convert/{case.case_id}/{volume}.json"
            for case in COHORT.cases
            for volume in sorted(case.sources)
        ],
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
            # of simulated patients the truth tells the lobes
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
        figures=rules.report_figures.output,
        pictures=[
            *of_portions("results/report/figures/cases"),
            *of_portions("results/report/figures/crop"),
            *of_portions("results/report/volumes"),
        ],
        registrations="results/report/registration.html",
    output:
        page="results/report/index.html",
        config="results/report/effective_config.yaml",
        times="results/report/times.js",
        tables=directory("results/report/tables"),
        viewer=directory("results/report/viewer"),
    log:
        "logs/report/page.log",
    benchmark:
        "benchmarks/report/page.tsv"
    conda:
        "../../envs/stats.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_case=3),
        runtime=minutes(20, per_case=0.1),
    params:
        code=code_digest("scripts/report.py"),
        template=folder_digest(
            Path(workflow.basedir) / "resources" / "report", HASH_CACHE
        ),
        checklist=folder_digest(
            Path(workflow.basedir) / "resources" / "claim2024.tsv", HASH_CACHE
        ),
        published=folder_digest(
            Path(workflow.basedir) / "resources" / "published.tsv", HASH_CACHE
        ),
        panels=[case_figure("cases", case) for case in COHORT.case_ids],
        normalised=[case_figure("crop", case) for case in COHORT.case_ids],
        volumes=[
            f"results/report/volumes/{PORTION_OF[case]}/{case}"
            for case in COHORT.case_ids
        ],
        labels=model_labels(),
        cases=case_facts(),
        flow=cohort_flow(),
        simulated=COHORT.simulated,
        config=config_to_show(),
    script:
        "../../scripts/report.py"
