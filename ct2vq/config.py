"""The configuration of a study: read, checked against the schema, defaults filled in.

Imported while Snakemake builds the DAG, on every cluster job again: only light imports here.
"""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ct2vq.errors import ConfigError
from ct2vq.networks.settings import NETWORK_KINDS, multiple_of, network_problems

SCHEMAS = Path(__file__).resolve().parents[1] / "workflow" / "schemas"
TARGETS = ("perfusion", "ventilation")
#: what stands beside the models' names in tables and inputs
RESERVED_NAMES = (
    "spect",
    "truth",
    "truth_visible",
    "noise_ceiling",
    "visible_ceiling",
    "findings",
    "ct",
    "lungs",
    "regions",
    "lobes",
)
#: keys of `train.loss` that are weights of its parts
LOSS_PARTS = ("l1", "huber", "ssim", "correlation")
#: keys of `train` that cannot change a result: an interrupted training goes on and a finished one stays
TRAINING_WITHOUT_EFFECT = ("cache_mb", "memory_mb", "checkpoint_seconds", "tensorboard")
#: keys of `register` that measure a registration and change none
ONLY_JUDGED_BY = ("accept", "flags", "refuse", "simulated_landmarks")
#: the study's own SPECT among the alternatives
OWN_SPECT = "study"


@cache
def config_schema() -> dict[str, Any]:
    """The schema of the configuration, with the keys of blocks that override others (without defaults of their own)."""
    schema = _read_schema("config.schema.yaml")
    blocks = schema["properties"]
    training = blocks["models"]["additionalProperties"]["properties"]["training"]
    training["properties"] = _without_defaults(blocks["train"]["properties"])
    alternative = blocks["sensitivity"]["properties"]["spect"]["additionalProperties"]["properties"]
    registration = _without_defaults(blocks["register"]["properties"])
    alternative["register"]["properties"] = {
        key: value for key, value in registration.items() if key not in ONLY_JUDGED_BY
    }
    spect = _without_defaults(blocks["crop"]["properties"]["spect"]["properties"])
    alternative["crop"]["properties"]["spect"]["properties"] = spect
    return schema


@cache
def cases_schema() -> dict[str, Any]:
    """The schema of a row of the cohort table."""
    return _read_schema("cases.schema.yaml")


def _read_schema(name: str) -> dict[str, Any]:
    """A schema, read by libyaml where PyYAML has it: ten times faster, at every start of Snakemake."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((SCHEMAS / name).read_text(encoding="utf-8"), Loader=loader)


def complete_config(config: dict[str, Any], source: str = "the configuration") -> dict[str, Any]:
    """Check a configuration and fill in the defaults.

    Args:
        config: the mapping read from the config files; it is not changed.
        source: file name for messages.

    Raises:
        ConfigError: with every wrong key and value, and a suggestion for a misspelt key.
    """
    completed = copy.deepcopy(config)
    _fill_defaults(completed, config_schema())
    problems = schema_problems(completed, config_schema()) or _contradictions(completed)
    if problems:
        raise ConfigError(f"{source} is wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return completed


def schema_problems(instance: Any, schema: dict[str, Any]) -> list[str]:
    """Every departure of `instance` from `schema`, each in one line that names the key."""
    validator = _validator_class()(schema)
    return [
        line
        for error in sorted(validator.iter_errors(instance), key=lambda error: [str(part) for part in error.path])
        for line in _explain(error)
    ]


@cache
def _validator_class() -> Any:
    """JSON Schema with YAML's numbers: `4.0` is no whole number (Python cannot count to it), `.nan` no number."""
    import jsonschema

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda checker, value: (
                checker.is_type(value, "integer") or (isinstance(value, float) and math.isfinite(value))
            ),
        }
    )
    return jsonschema.validators.extend(base, type_checker=types)


def model_training(config: dict[str, Any], model: str) -> dict[str, Any]:
    """The training settings of a model: `train` with the model's own `training` over it."""
    return merged(config["train"], config["models"][model].get("training", {}))


def alternative_spect(config: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Blocks `register` and `crop.spect` of an alternative of `sensitivity.spect`: the study's, with its overrides.

    Returns:
        Keys `register` and `spect`.
    """
    override = config["sensitivity"]["spect"][name]
    return {
        "register": merged(config["register"], override.get("register", {})),
        "spect": merged(config["crop"]["spect"], override.get("crop", {}).get("spect", {})),
    }


def models_for(config: dict[str, Any], target: str) -> list[str]:
    """The models that predict a target, in the order of the configuration."""
    return [name for name, model in config["models"].items() if target in model["targets"]]


def vq_arms(models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What predicts ventilation and perfusion together: the model of each target, by the name of the arm.

    An arm is a model with both targets, or a pair `<stem>_perfusion` and `<stem>_ventilation` of models of one target
    each, called `<stem>`; where a model of that name has both targets itself, the pair is left out.

    Args:
        models: config block `models`.
    """
    arms = {
        name: dict.fromkeys(TARGETS, name) for name, model in models.items() if set(TARGETS) <= set(model["targets"])
    }
    for name in models:
        stem = name.removesuffix(f"_{TARGETS[0]}")
        pair = {target: f"{stem}_{target}" for target in TARGETS}
        told = all(list(models.get(one, {}).get("targets", ())) == [target] for target, one in pair.items())
        if stem != name and told and stem not in RESERVED_NAMES:
            arms.setdefault(stem, pair)
    return arms


def detection_definitions(evaluate: Mapping[str, Any]) -> list[str]:
    """Names of the thresholds that say what low function is when images are judged as a test for it.

    Args:
        evaluate: config block `evaluate`.
    """
    if evaluate["detection_definitions"] is not None:
        return list(evaluate["detection_definitions"])
    thresholds = evaluate["function_thresholds"]
    absolute = [entry["name"] for entry in thresholds if entry.get("method") == "percent_of_maximum"]
    return list(dict.fromkeys([thresholds[0]["name"], *absolute[:1]]))


def tells_lobes(config: dict[str, Any]) -> bool:
    """Whether the backend of the segmentation tells lobes."""
    segment = config["segment"]
    if segment["backend"] == "lungmask":
        return segment["lungmask"]["lobe_weights"] is not None
    return segment["backend"] == "totalsegmentator"


def completed_block(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """A block of another version's configuration, with this version's defaults for what it does not know."""
    return _over(complete_config({"study": "completed"})[name], known)


def _over(defaults: Any, known: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(known, Mapping)):
        return known
    return defaults | {key: _over(defaults.get(key), value) for key, value in known.items()}


def segment_settings(
    config: dict[str, Any], *, own_mask: bool, lungs: str | None, weights: Mapping[str, str | None]
) -> dict[str, Any]:
    """What decides a segmentation, and nothing else: another weights file reruns it, another place of it does not.

    Args:
        config: a complete configuration.
        own_mask: whether the user gives the mask.
        lungs: what the cohort table tells of the patient's lungs, if anything.
        weights: digests by key of the backend's block.

    Returns:
        The keys of config block `segment` that are read, digests in place of paths, and `lungs`.
    """
    settings = config["segment"]
    backend = settings["backend"]
    others = {"lungmask", "totalsegmentator"} - {backend}
    if not own_mask:
        others.add("own_mask")
    if own_mask and not tells_lobes(config):
        others |= {backend, "backend", "inside", "threshold_hu", "closing_mm"}
    chosen = {key: value for key, value in settings.items() if key not in others}
    if backend in chosen:
        chosen[backend] = chosen[backend] | dict(weights)
    return chosen | ({"lungs": lungs} if lungs else {})


def weight_paths(config: dict[str, Any]) -> dict[str, str | None]:
    """Where the weights of the segmentation's backend lie, by key of its block."""
    block = config["segment"].get(config["segment"]["backend"], {})
    return {key: path for key, path in block.items() if key in ("weights", "lobe_weights")}


def is_network(model: dict[str, Any]) -> bool:
    """Whether a model is trained by gradient descent (the others are closed-form baselines)."""
    return model["kind"] in NETWORK_KINDS


def merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """A copy of settings with others over them, block by block."""
    result = copy.deepcopy(base)
    for key, value in override.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) and key in result else value
    return result


def _without_defaults(properties: dict[str, Any]) -> dict[str, Any]:
    stripped = copy.deepcopy(properties)
    for schema in stripped.values():
        schema.pop("default", None)
        if "properties" in schema:
            schema["properties"] = _without_defaults(schema["properties"])
    return stripped


def _fill_defaults(instance: Any, schema: dict[str, Any]) -> None:
    if not isinstance(instance, dict):
        return
    properties = schema.get("properties", {})
    for key, subschema in properties.items():
        if "default" in subschema and instance.get(key) is None and key not in instance:
            instance[key] = copy.deepcopy(subschema["default"])
        if key in instance:
            _fill_defaults(instance[key], subschema)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        for key in instance.keys() - properties.keys():
            _fill_defaults(instance[key], extra)


def _explain(error: Any) -> list[str]:
    where = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        return [f"unknown key `{_join(where, key)}`{_suggest(key, known)}" for key in unknown]
    if "propertyNames" in error.absolute_schema_path:
        return [f"unknown key `{_join(where, error.instance)}`{_suggest(error.instance, error.validator_value)}"]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return [f"key `{_join(where, key)}` is missing" for key in missing]
    description = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    reason = error.message if len(error.message) < 200 else f"wrong value ({error.validator})"
    return [f"key `{where}`: {reason}" + (f" ({description})" if description else "")]


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _suggest(key: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known keys here: {', '.join(known)}" if known else "; no keys are known here"


def _simulation_contradictions(config: dict[str, Any]) -> list[str]:
    """What the schema cannot say of the simulated cohort: ranges that run backwards, frequencies that are all 0."""
    simulate, problems = config["simulate"], []
    ranges = {
        "simulate.motion.diaphragm_mm": simulate["motion"]["diaphragm_mm"],
        "simulate.motion.full_diaphragm_mm": simulate["motion"]["full_diaphragm_mm"],
        "simulate.spect.count_rate_ratio": simulate["spect"]["count_rate_ratio"],
    }
    for key, (low, high) in ranges.items():
        if low > high:
            problems.append(f"key `{key}`: the range runs from {low} to {high}")
    if config["cohort"]["source"] != "simulated":
        return problems
    weights = {
        "simulate.diagnoses": simulate["diagnoses"],
        "simulate.habits": simulate["habits"],
        "simulate.ct.kernels": simulate["ct"]["kernels"],
    }
    return problems + [
        f"key `{key}`: every frequency is 0" for key, shares in weights.items() if not sum(shares.values())
    ]


def _contradictions(config: dict[str, Any]) -> list[str]:
    """What a schema cannot say."""
    problems = _threshold_problems(config["evaluate"])
    problems += _case_level_problems(config["detect"])
    crop = config["crop"]
    for key, (low, high) in (
        ("window_hu", crop["window_hu"]),
        ("stretch_percentiles", crop["stretch_percentiles"]),
        ("texture", (crop["texture"]["low_hu"], crop["texture"]["high_hu"])),
        ("spect.hot_spots.neighbourhood_mm", crop["spect"]["hot_spots"]["neighbourhood_mm"]),
    ):
        if low >= high:
            problems.append(f"key `crop.{key}`: it runs from {low} to {high}; the first must be the smaller")
    problems += _wrong_patterns(config)
    problems += _simulation_contradictions(config)
    problems += _unknown_pairs(config)
    problems += _wrong_alternatives(config)
    problems += _wrong_synthesis(config)
    problems += _reading_problems(config)
    for name, model in config["models"].items():
        if name in RESERVED_NAMES:
            problems.append(f"key `models.{name}`: `{name}` names a kind of image in the tables; choose another name")
        if is_network(model):
            problems += _network_problems(name, model, crop["multiple"])
            loss = model_training(config, name)["loss"]
            if not any(loss[part] for part in LOSS_PARTS):
                problems.append(f"key `train.loss`: every part of the loss of `models.{name}` has weight 0")
    return problems


def _reading_problems(config: dict[str, Any]) -> list[str]:
    """A reader study that cannot be made, or whose tables could not tell two things apart."""
    read, problems = config["read"], []
    if not read["enabled"]:
        return []
    for target, model in read["models"].items():
        if target not in config["models"].get(model, {}).get("targets", ()):
            known = models_for(config, target)
            problems.append(f"key `read.models.{target}`: no model `{model}` makes {target}{_suggest(model, known)}")
    choices = read["diagnosis"]["choices"]
    named = {
        "read.acceptability.items": [item["name"] for item in read["acceptability"]["items"]],
        "read.diagnosis.choices": [choice["name"] for choice in choices],
        "read.diagnosis.locations": [place["name"] for place in read["diagnosis"]["locations"]],
        "read.diagnosis.patterns": [pattern["name"] for pattern in read["diagnosis"]["patterns"]],
        "read.diagnosis.choices[].diagnoses": [name.casefold() for one in choices for name in one["diagnoses"]],
    }
    for key, names in named.items():
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"key `{key}`: `{name}` stands there more than once" for name in twice]
    if "guess" in named["read.acceptability.items"]:
        problems.append("key `read.acceptability.items`: `guess` names the guess of the source; choose another name")
    return problems + _endpoint_problems(config)


def _endpoint_problems(config: dict[str, Any]) -> list[str]:
    """A primary endpoint without meaning, and what must be told before packs are built."""
    read = config["read"]
    if set(read["parts"]) == {"acceptability"}:
        return []
    problems, choices = [], [choice["name"] for choice in read["diagnosis"]["choices"]]
    for name in read["endpoint"]["positive"]:
        if name not in choices:
            problems.append(
                f"key `read.endpoint.positive`: `{name}` is not in `read.diagnosis.choices`{_suggest(name, choices)}"
            )
    if not set(choices) - set(read["endpoint"]["positive"]):
        problems.append("key `read.endpoint.positive`: every choice is positive, so nobody is negative")
    problems += _expectation_problems(read["endpoint"])
    if config["cohort"]["source"] != "simulated" and not read["simulated"]["readers"]:
        problems += [
            f"key `read.reference.{key}`: it must be told in words before packs are built"
            for key in ("source", "adjudication")
            if not read["reference"][key]
        ]
    return problems


def _expectation_problems(endpoint: dict[str, Any]) -> list[str]:
    """Expectations that cannot hold together, of those that the metric's sample size is computed from."""
    expected, difference = endpoint["expected"], endpoint["difference"]
    if endpoint["metric"] == "auc" and not 0 < expected + difference < 1:
        return [
            f"key `read.endpoint.difference`: with an AUC of {expected:g} on real images it makes one of "
            f"{expected + difference:g} on synthesised images; that must lie between 0 and 1"
        ]
    if endpoint["metric"] != "auc" and endpoint["discordance"] < abs(difference):
        return [
            f"key `read.endpoint.discordance`: {endpoint['discordance']:g}, but a difference of {difference:g} needs "
            f"{abs(difference):g} or more"
        ]
    return []


def _wrong_synthesis(config: dict[str, Any]) -> list[str]:
    """Answers that no model of the study can give."""
    synthesize, problems = config["synthesize"], []
    reach = synthesize["test_time_augmentation"]["shift_voxels"] * config["crop"]["spacing_mm"]
    if reach > config["crop"]["margin_mm"]:
        problems.append(
            f"key `synthesize.test_time_augmentation.shift_voxels`: a shift by {reach:g} mm leaves the crop, whose "
            f"`crop.margin_mm` is {config['crop']['margin_mm']:g}"
        )
    networks = [model["network"] for model in config["models"].values() if is_network(model)]
    if synthesize["uncertainty"] == "dropout" and not any(network.get("dropout") for network in networks):
        problems.append("key `synthesize.uncertainty`: `dropout`, but no model has `network.dropout` above 0")
    return problems


def _network_problems(name: str, model: dict[str, Any], multiple: int) -> list[str]:
    """A network that cannot be built, or one that would have to pad every case."""
    kind, network = model["kind"], model["network"]
    problems = [f"key `models.{name}.network.{problem}" for problem in network_problems(kind, network)]
    divisor = multiple_of(kind, network)
    # the peers pad what they need: a grid that suits the coarsest of them would be a larger one for all models
    if kind == "ran" and multiple % divisor:
        problems.append(
            f"key `crop.multiple`: {multiple} is not a multiple of {divisor}, which the "
            f"`stem` and `levels` of `models.{name}.network` need"
        )
    return problems


def _case_level_problems(detect: dict[str, Any]) -> list[str]:
    """Classifications of cases that share a name could not be told apart in the tables."""
    names = [rule["name"] for rule in detect["case_level"]]
    return [
        f"key `detect.case_level`: two are called `{name}`" for name in sorted({n for n in names if names.count(n) > 1})
    ]


def _threshold_problems(evaluate: dict[str, Any]) -> list[str]:
    """Thresholds of function that have no meaning, or that make a voxel both low and high."""
    key, thresholds = "key `evaluate.function_thresholds`", evaluate["function_thresholds"]
    names = [threshold["name"] for threshold in thresholds]
    problems = [f"{key}: two are called `{name}`" for name in sorted({n for n in names if names.count(n) > 1})]
    for threshold in thresholds:
        if threshold["name"].startswith("curve_p"):
            problems.append(f"{key}: `{threshold['name']}` is a name of the threshold curve; choose another one")
        problem = _threshold_problem(threshold)
        if problem:
            problems.append(f"{key}: `{threshold['name']}` {problem}")
    for name in evaluate["detection_definitions"] or []:
        if name not in names:
            problems.append(
                f"key `evaluate.detection_definitions`: `{name}` is no name in `evaluate.function_thresholds`"
                + _suggest(name, names)
            )
    return problems


def _threshold_problem(threshold: dict[str, Any]) -> str:
    method, percents = threshold.get("method", "percentile"), [key for key in ("low", "high") if key in threshold]
    if method == "equal_volumes":
        if percents:
            return "has method equal_volumes, which takes thirds; leave out `low` and `high`"
        if threshold.get("cut") == "reference":
            return "has method equal_volumes, whose volumes one cut for both images would not make equal"
        return ""
    if len(percents) < 2:
        return "needs `low` and `high`"
    low, high = threshold["low"], threshold["high"]
    if method == "activity" and low < high:
        return (
            f"has low {low} below high {high}, so a voxel would be both: the voxels that hold {high} % of the "
            f"activity reach outside those that hold {low} %"
        )
    if method != "activity" and low > high:
        return f"has low {low} above high {high}, so a voxel would be both"
    return ""


def _wrong_patterns(config: dict[str, Any]) -> list[str]:
    try:
        re.compile(config["convert"]["limits"]["kernels"] or "")
    except re.error as error:
        return [f"key `convert.limits.kernels`: no regular expression: {error}"]
    return []


def _wrong_alternatives(config: dict[str, Any]) -> list[str]:
    sensitivity, known = config["sensitivity"], [one["name"] for one in config["evaluate"]["function_thresholds"]]
    problems = [
        f"key `sensitivity.definitions`: `{name}` is not in `evaluate.function_thresholds`{_suggest(name, known)}"
        for name in sensitivity["definitions"] or ()
        if name not in known
    ]
    if OWN_SPECT in sensitivity["spect"]:
        problems.append(f"key `sensitivity.spect.{OWN_SPECT}`: the study's own SPECT has this name; choose another")
    for name in sensitivity["spect"]:
        low, high = alternative_spect(config, name)["spect"]["hot_spots"]["neighbourhood_mm"]
        if low >= high:
            key = f"sensitivity.spect.{name}.crop.spect.hot_spots.neighbourhood_mm"
            problems.append(f"key `{key}`: it runs from {low} to {high}; the first must be the smaller")
    return problems


def _unknown_pairs(config: dict[str, Any]) -> list[str]:
    problems = []
    for first, second, target in config["compare"]["pairs"]:
        for model in (first, second):
            if model not in config["models"]:
                problems.append(
                    f"key `compare.pairs`: no model `{model}` in `models`{_suggest(model, list(config['models']))}"
                )
            elif target not in config["models"][model]["targets"]:
                problems.append(f"key `compare.pairs`: model `{model}` does not predict `{target}`")
    return problems
