"""A configuration is complete, or every wrong key is named."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.config import (
    cases_schema,
    complete_config,
    config_schema,
    detection_definitions,
    is_network,
    model_training,
    models_for,
)
from ct2vq.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
MODELS = config_schema()["properties"]["models"]
MINIMAL = {"study": "mine"}


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every key of the schema that has no keys below it, models left out."""
    for key, below in schema["properties"].items():
        if key == "models" and not path:
            continue
        if "properties" in below:
            yield from leaves(below, (*path, key))
        else:
            yield (*path, key), below


LEAVES = dict(leaves(config_schema()))
NETWORK_LEAVES = MODELS["additionalProperties"]["properties"]["network"]["properties"]


def config_with(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    config: dict[str, Any] = dict(MINIMAL)
    inner = config
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value
    return config


def problems(config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        complete_config(config, "my.yaml")
    return str(caught.value)


def described(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every named key of a schema with its description, those of items and of models included."""
    if isinstance(schema, dict):
        for key, below in schema.get("properties", {}).items():
            yield f"{path}.{key}", below.get("description", "")
        for key in ("properties", "items", "additionalProperties"):
            below = schema.get(key)
            inner = below.items() if key == "properties" and below else [(key, below)]
            for name, value in inner:
                yield from described(value, f"{path}.{name}")


def test_every_key_is_described() -> None:
    bare = [path for schema in (config_schema(), cases_schema()) for path, text in described(schema) if len(text) < 8]
    assert not bare


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_leaf_has_a_default(path: tuple[str, ...]) -> None:
    if path == ("study",):
        assert "study" in config_schema()["required"]
    else:
        assert "default" in LEAVES[path]


def test_a_network_needs_no_settings() -> None:
    assert all("default" in schema for schema in NETWORK_LEAVES.values())
    completed = complete_config(MINIMAL | {"models": {"m": {"kind": "ran", "targets": ["perfusion"]}}, **NO_PAIRS})
    assert completed["models"]["m"]["network"] == {key: schema["default"] for key, schema in NETWORK_LEAVES.items()}


NO_PAIRS = {"compare": {"pairs": []}}


def test_a_study_name_is_enough() -> None:
    completed = complete_config(MINIMAL)
    for path, schema in LEAVES.items():
        inner: Any = completed
        for key in path:
            inner = inner[key]
        assert inner == schema.get("default", "mine"), path


def test_completing_twice_changes_nothing_and_the_argument_stays() -> None:
    config = {"study": "mine", "train": {"epochs": 3}}
    before = copy.deepcopy(config)
    completed = complete_config(config)
    assert config == before
    assert complete_config(completed) == completed
    completed["train"]["loss"]["l1"] = 99
    completed["models"]["ddran"]["targets"].append("changed")
    assert complete_config(config)["train"]["loss"]["l1"] == 1.0
    assert complete_config(config)["models"]["ddran"]["targets"] == ["perfusion", "ventilation"]


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_that_are_shipped_are_right(file: Path) -> None:
    complete_config(yaml.safe_load(file.read_text(encoding="utf-8")), str(file))


@given(st.sampled_from(sorted(LEAVES)))
def test_a_misspelt_key_is_named_and_the_right_one_suggested(path: tuple[str, ...]) -> None:
    wrong = (*path[:-1], path[-1] + path[-1][-1])
    text = problems(config_with(wrong, 1))
    assert "my.yaml" in text
    assert f"`{'.'.join(wrong)}`" in text
    assert f"did you mean `{path[-1]}`?" in text


@given(st.sampled_from(sorted(LEAVES)))
def test_a_wrong_type_is_named(path: tuple[str, ...]) -> None:
    wrong = ["no"] if LEAVES[path].get("type") == "object" else {"no": "such"}
    assert f"key `{'.'.join(path)}`" in problems(config_with(path, wrong))


NUMBERS = sorted(path for path, schema in LEAVES.items() if schema.get("type") in ("number", "integer"))


@given(st.sampled_from(NUMBERS), st.sampled_from([float("nan"), float("inf"), "1", True, None]))
def test_a_number_is_a_finite_number(path: tuple[str, ...], value: Any) -> None:
    assert f"key `{'.'.join(path)}`" in problems(config_with(path, value))


@pytest.mark.parametrize("path", [path for path in NUMBERS if LEAVES[path]["type"] == "integer"], ids=".".join)
def test_python_cannot_count_to_four_point_zero(path: tuple[str, ...]) -> None:
    assert "not of type 'integer'" in problems(config_with(path, 64.0))


def test_every_problem_is_told_at_once() -> None:
    text = problems({"study": "a b", "trian": {}, "train": {"epochs": 0}, "crop": {"multiple": "8"}})
    for part in ("`study`", "`trian`; did you mean `train`?", "`train.epochs`", "`crop.multiple`"):
        assert part in text
    assert "key `study` is missing" in problems({})


@pytest.mark.parametrize("config", [None, [], "study", 3, {"study": "x", "train": None}, {"study": "x", 5: 1}])
def test_what_is_no_configuration_at_all(config: Any) -> None:
    assert problems(config)


def model(**changes: Any) -> dict[str, Any]:
    return {"kind": "ran", "targets": ["perfusion"]} | changes


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"crop": {"window_hu": [0, -1000]}}, "crop.window_hu", "smaller"),
        ({"crop": {"texture": {"low_hu": -700, "high_hu": -900}}}, "crop.texture", "smaller"),
        ({"crop": {"texture": {"high_hu": -400}}}, "crop.texture.high_hu", "-450"),
        ({"crop": {"multiple": 6}}, "crop.multiple", "not a multiple of"),
        ({"simulate": {"motion": {"diaphragm_mm": [20, 5]}}}, "simulate.motion.diaphragm_mm", "20"),
        ({"simulate": {"spect": {"count_rate_ratio": [6, 3]}}}, "simulate.spect.count_rate_ratio", "6"),
        ({"simulate": {"diagnoses": {"emphysem": 1}}}, "simulate.diagnoses.emphysem", "did you mean `emphysema`"),
        ({"simulate": {"world": "third"}}, "simulate.world", "third"),
        ({"compare": {"pairs": [["ddran", "ran_perfusoin", "perfusion"]]}}, "compare.pairs", "`ran_perfusion`?"),
        ({"compare": {"pairs": [["ddran", "ran_perfusion", "ventilation"]]}}, "compare.pairs", "does not predict"),
        ({"models": {"spect": model()}, **NO_PAIRS}, "models.spect", "another name"),
        ({"models": {"m": model(network={"levels": 5})}, **NO_PAIRS}, "crop.multiple", "`models.m.network`"),
        (
            {"cohort": {"source": "simulated"}, "simulate": {"diagnoses": {"normal": 0}}},
            "simulate.diagnoses",
            "frequency is 0",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "t", "low": 60, "high": 40}]}},
            "evaluate.function_thresholds",
            "both",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "t", "low": 40, "high": 40}] * 2}},
            "evaluate.function_thresholds",
            "`t`",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "t", "method": "activity", "low": 50, "high": 75}]}},
            "evaluate.function_thresholds",
            "75 % of the activity reach outside those that hold 50 %",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "t", "method": "percent_of_maximum", "low": 50}]}},
            "evaluate.function_thresholds",
            "needs `low` and `high`",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "t", "method": "equal_volumes", "low": 50}]}},
            "evaluate.function_thresholds",
            "leave out",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "t", "method": "equal_volumes", "cut": "reference"}]}},
            "evaluate.function_thresholds",
            "would not make equal",
        ),
        (
            {"evaluate": {"function_thresholds": [{"name": "curve_p40", "low": 40, "high": 40}]}},
            "evaluate.function_thresholds",
            "choose another one",
        ),
        ({"evaluate": {"detection_definitions": ["p4O"]}}, "evaluate.detection_definitions", "did you mean `p40`?"),
    ],
)
def test_contradictions(change: dict[str, Any], key: str, said: str) -> None:
    text = problems(MINIMAL | change)
    assert f"key `{key}`" in text
    assert said in text


def test_definitions_of_detection_follow_the_thresholds() -> None:
    default = complete_config(MINIMAL)["evaluate"]
    assert detection_definitions(default) == ["p40", "percent_max"]
    own = complete_config(MINIMAL | {"evaluate": {"function_thresholds": [{"name": "t", "low": 30, "high": 30}]}})
    assert detection_definitions(own["evaluate"]) == ["t"], "settings of the first version stay valid"
    chosen = complete_config(MINIMAL | {"evaluate": {"detection_definitions": ["activity"]}})
    assert detection_definitions(chosen["evaluate"]) == ["activity"]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({}, "models"),
        ({"DDRAN": model()}, "DDRAN"),
        ({"m": {"kind": "ran"}}, "`models.m.targets` is missing"),
        ({"m": model(targets=[])}, "models.m.targets"),
        ({"m": model(targets=["perfusion", "perfusion"])}, "models.m.targets"),
        ({"m": model(kind="resnet")}, "models.m.kind"),
        ({"m": model(training={"epoch": 3})}, "`models.m.training.epoch`; did you mean `epochs`?"),
        ({"m": model(training={"loss": {"l2": 3}})}, "`models.m.training.loss.l2`"),
        ({"m": model(network={"widht": 3})}, "did you mean `width`?"),
    ],
)
def test_a_wrong_model(models: dict[str, Any], said: str) -> None:
    assert said in problems(MINIMAL | {"models": models} | NO_PAIRS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (model(kind="unet", network={"levels": 1}), "`models.m.network.levels`: 1 is too few; `unet` has at least 2"),
        (model(kind="dynunet", network={"levels": 2}), "`models.m.network.levels`"),
        (model(kind="swin_unetr"), "`models.m.network.width`: 32 is not a multiple of 12"),
        (model(network={"levels": 5}), "`crop.multiple`: 8 is not a multiple of 32"),
        (model(training={"loss": {"l1": 0, "correlation": 0}}), "every part of the loss of `models.m` has weight 0"),
        (model(network={"encoder": "none"}), "models.m.network.encoder"),
        (model(network={"dropout": 1}), "models.m.network.dropout"),
        (model(training={"loss": {"huber_delta": 0}}), "models.m.training.loss.huber_delta"),
    ],
)
def test_a_network_that_cannot_be_built_or_trained(wrong: dict[str, Any], said: str) -> None:
    assert said in problems(MINIMAL | {"models": {"m": wrong}} | NO_PAIRS)


def test_peers_pad_instead_of_asking_for_a_larger_crop() -> None:
    peers = {"d": model(kind="dynunet", network={"levels": 5}), "s": model(kind="swin_unetr", network={"width": 24})}
    config = complete_config(MINIMAL | {"models": peers} | NO_PAIRS)
    assert all(is_network(one) for one in config["models"].values())


def test_a_model_overrides_single_settings_of_the_training() -> None:
    override = {"epochs": 7, "loss": {"l1": 2.0}}
    config = complete_config(
        {"study": "x", "train": {"epochs": 3}, "models": {"a": model(training=override), "b": model()}} | NO_PAIRS
    )
    base, own = model_training(config, "b"), model_training(config, "a")
    assert base == config["train"]
    assert (own["epochs"], own["loss"]["l1"], own["loss"]["correlation"]) == (7, 2.0, base["loss"]["correlation"])
    assert config["train"]["loss"]["l1"] == 1.0, "the override must not reach the other models"
    assert {key for key in own} == {key for key in base}


def test_the_models_of_a_target_in_their_order() -> None:
    config = complete_config(MINIMAL)
    assert models_for(config, "perfusion") == ["ddran", "ran_perfusion", "mean_map", "hu_regression"]
    assert [name for name, m in config["models"].items() if is_network(m)] == [
        "ddran",
        "ran_perfusion",
        "ran_ventilation",
    ]
