# Two commands: `make demo` (the embedded study, from nothing to the report) and `make test` (all tests).
# Both set up .venv from requirements.lock first, once.

PYTHON ?= python3
CORES ?= all
CONFIG ?= config/demo.yaml
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
# two processes: one runs Snakemake, the other one the rest, module by module (tests/conftest.py)
TWO := -n 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*\#\#.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1|/' | column -t -s '|'

setup: $(READY)  ## the virtual environment .venv, from requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ct2vq needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(READY)  ## run the embedded study: simulated DICOM to results/report/index.html
	$(BIN)/python -m ct2vq run --cores $(CORES) --configfile $(CONFIG)
	@$(BIN)/python -m ct2vq summary

test: $(READY)  ## all tests, the end-to-end one included, without a cluster
	$(BIN)/python -m pytest $(TWO) -m "not cluster"

test-cluster: $(READY)  ## the workflow on a Slurm that is started for it (root, Debian's packages)
	$(BIN)/python -m pytest tests/cluster

test-fast: $(READY)  ## tests that take seconds (no Snakemake runs, no real data)
	$(BIN)/python -m pytest $(TWO) -m "not workflow and not realdata and not cluster"

lint: $(READY)  ## formatting and lint, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: $(READY)  ## format everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

docs: $(READY)  ## config/README.md from the schemas, docs/errors.md from the codes
	$(BIN)/python -m ct2vq config-docs > config/.README.md.part
	mv config/.README.md.part config/README.md
	$(BIN)/python -m ct2vq errors-docs > docs/.errors.md.part
	mv docs/.errors.md.part docs/errors.md

pictures: $(READY)  ## the README's pictures (needs graphviz, Chromium and a finished demo)
	$(BIN)/python docs/make_pictures.py

bench-demo: $(READY)  ## measure the demo on this machine: docs/benchmarks/demo.tsv (runs it on all cores and on one: half an hour)
	$(BIN)/python docs/benchmarks/run_demo.py

$(BENCH)/.ready: $(READY) requirements-bench.txt  # the programs compared with; what is in .venv is taken from there
	test -x $(BENCH)/bin/python || $(BIN)/python -m venv $(BENCH)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$($(BENCH)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench.txt
	touch $@

bench-register: $(BENCH)/.ready  ## compare the registration with ANTs, elastix and greedy (SHARED=real images, STUDY=simulated study's directory; 40 minutes): docs/benchmarks/register.tsv
	$(BENCH)/bin/python docs/benchmarks/run_register.py $(if $(SHARED),--shared $(SHARED)) $(if $(STUDY),--study $(STUDY))
	$(BIN)/python docs/make_benchmarks.py

bench-ceilings: $(READY)  ## measure what a CT can tell of the simulated cohort (STUDY=its directory): docs/benchmarks/ceilings.tsv
	$(BIN)/python docs/benchmarks/run_ceilings.py $(if $(STUDY),--study $(STUDY))
	$(BIN)/python docs/make_benchmarks.py

realism: $(READY)  ## measure the simulated cohort beside published lungs: docs/benchmarks/realism.tsv, figures in docs/images
	$(BIN)/python docs/benchmarks/run_realism.py
	$(BIN)/python docs/make_benchmarks.py

bench-simulate: $(READY)  ## measure the cost of simulated cases: docs/benchmarks/simulate.tsv (eight minutes)
	$(BIN)/python docs/benchmarks/run_simulate.py

bench-convert: $(READY)  ## compare conversion with dcm2niix and SimpleITK (CT=DICOM folder of one CT): docs/benchmarks/convert.tsv
	$(BIN)/python docs/benchmarks/run_convert.py $(CT)
	$(BIN)/python docs/make_benchmarks.py

bench-segment: $(READY)  ## compare lungs with contours by hand and with the truth (REAL=folder of real images, STUDY=simulated study): docs/benchmarks/segment.tsv
	$(BIN)/python docs/benchmarks/run_segment.py $(REAL) $(if $(STUDY),--study $(STUDY))
	$(BIN)/python docs/make_benchmarks.py

bench-crop: $(READY)  ## measure crop's round trip and hot spots (STUDY=a run of config/simulated-study.yaml): docs/benchmarks/crop.tsv
	$(BIN)/python docs/benchmarks/run_crop.py --study $(STUDY)
	$(BIN)/python docs/make_benchmarks.py

bench-networks: $(READY)  ## measure size, multiply-adds and seconds a step of every network: docs/benchmarks/networks.tsv
	$(BIN)/python docs/benchmarks/run_networks.py
	$(BIN)/python docs/make_benchmarks.py

# patients are simulated, and what is done is kept, in the directory STUDY
define trainings
	$(BIN)/python -m ct2vq run --cores $(CORES) --snakefile $(CURDIR)/Snakefile --configfile $(CURDIR)/config/$(1).yaml --directory $(STUDY) --until simulate
	$(BIN)/python docs/benchmarks/run_train.py --study $(STUDY) --config config/$(1).yaml --name $(2) --minutes $(3) --seeds $(4) $(if $(JOBS),--jobs $(JOBS)) $(if $(UNTIL),--stop-after $(UNTIL))
	$(BIN)/python docs/make_benchmarks.py
endef

bench-augmentation: $(READY)  ## what textures, augmentation and longer trainings are worth, on other patients (the same variables; an hour): docs/benchmarks/train_augmentation_3.tsv and _9.tsv
	$(call trainings,bench-augmentation,train_augmentation_3,3,1 --folds 1)
	$(call trainings,bench-augmentation,train_augmentation_9,9,1 --folds 1 --state $(STUDY)/bench-augmentation-9)

bench-train: $(READY)  ## train DDRAN, two RANs and peers for the same minutes (STUDY=directory, JOBS=side by side, UNTIL=minutes; begin it again to go on; three and a half hours): docs/benchmarks/train.tsv
	$(call trainings,bench-train,train,3,1 2 3)

bench-tuning: $(READY)  ## choose the settings of bench-train on other patients (the same variables; an hour): docs/benchmarks/train_tuning.tsv
	$(call trainings,bench-tuning,train_tuning,1.2,1 --folds 1)

bench-single: $(READY)  ## DDRAN beside two single-headed networks of each peer (the same variables; two and a half hours): docs/benchmarks/train_single.tsv
	$(call trainings,bench-single,train_single,3,1 2 3)

bench-ablations: $(READY)  ## DDRAN without each of its parts (the same variables; four and a half hours): docs/benchmarks/train_ablations.tsv
	$(call trainings,bench-ablations,train_ablations,3,1 2 3)

bench-forms: $(READY)  ## other forms of DDRAN on the tuning patients (the same variables; half an hour): docs/benchmarks/train_forms.tsv
	$(call trainings,bench-forms,train_forms,1.5,1 --folds 1)

bench-apply: $(READY)  ## measure a new CT from DICOM to both images (REAL=folder of real images, STUDY=directory of a finished demo): docs/benchmarks/apply.tsv
	$(BIN)/python docs/benchmarks/run_apply.py $(REAL) --study $(STUDY)
	$(BIN)/python docs/make_benchmarks.py

bench-evaluate: $(READY)  ## measure the evaluation of a case (STUDY=directory of a finished demo): docs/benchmarks/evaluate.tsv
	$(BIN)/python docs/benchmarks/run_evaluate.py --study $(STUDY)
	$(BIN)/python docs/make_benchmarks.py

bench-report: $(READY)  ## measure the report of 98 cases, made up of a finished demo's (STUDY=its directory; ten minutes): docs/benchmarks/report.tsv
	$(BIN)/python docs/benchmarks/run_report.py --study $(STUDY)
	$(BIN)/python docs/make_benchmarks.py

bench-discover: $(READY)  ## measure how fast headers are read: docs/benchmarks/discover.tsv
	$(BIN)/python docs/benchmarks/run_discover.py
	$(BIN)/python docs/make_benchmarks.py

bench-wrong-patients: $(READY)  ## register right and wrong patients (DEMO=finished demo, STUDY=simulated study, TINY=run of config/tiny.yaml, REAL=folder of real images, as many as there are; UNTIL=minutes; begin it again to go on; an hour): docs/benchmarks/wrong_patients.tsv
	$(BIN)/python docs/benchmarks/run_wrong_patients.py $(if $(DEMO),--demo $(DEMO)) $(if $(STUDY),--study $(STUDY)) $(if $(TINY),--tiny $(TINY)) $(if $(REAL),--real $(REAL)) $(if $(UNTIL),--stop-after $(UNTIL))
	$(BIN)/python docs/make_benchmarks.py

bench-reading: $(READY)  ## simulate the reader study's endpoint (four minutes) and measure its costs (DEMO=finished demo): docs/benchmarks/reading*.tsv
	$(BIN)/python docs/benchmarks/run_reading_endpoint.py
	$(if $(DEMO),$(BIN)/python docs/benchmarks/run_reading.py --demo $(DEMO))
	$(BIN)/python docs/make_benchmarks.py

SIZES ?= 98 1000
FINISHED ?= 98
bench-scale: $(READY)  ## measure the planning of many cases beside a plain chain (SIZES=numbers of cases, FINISHED=the largest whose files are made up; 20 minutes): docs/benchmarks/scale.tsv
	$(BIN)/python docs/benchmarks/run_scale.py --sizes $(SIZES) --finished $(FINISHED)
	$(BIN)/python docs/make_benchmarks.py

bench-spect: $(READY)  ## compare the two fidelities of simulated SPECT (needs requirements-osem.txt; 20 minutes): docs/benchmarks/spect.tsv
	$(BIN)/python docs/benchmarks/run_spect.py

docs-hostile: $(READY)  ## docs/hostile_files.md: what becomes of damaged and unusual files (needs CT2VQ_REALDATA for all of them)
	$(BIN)/python docs/make_hostile.py

bench-overhead: $(READY)  ## measure the demo's time outside the work, rule by rule: docs/benchmarks/overhead.tsv
	$(BIN)/python docs/benchmarks/run_overhead.py
	$(BIN)/python docs/make_benchmarks.py

bench-docs: $(READY)  ## docs/benchmarks.md from docs/benchmarks/*.tsv
	$(BIN)/python docs/make_benchmarks.py

lock:  ## requirements.lock from requirements.in, in a fresh environment
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.in
	{ echo '# Exact versions of everything, made by `make lock` from requirements.in.'; \
	  .venv-lock/bin/python -m pip freeze --all | grep -v '^pip==' | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > requirements.lock
	rm -rf .venv-lock

clean:  ## remove the demo's results, logs and checkpoints (not the environment)
	rm -rf results logs benchmarks work .snakemake
