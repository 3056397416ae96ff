"""The effective configuration as the report shows it, and which of its keys are assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ct2vq.config import complete_config, config_schema, is_network

#: in the place of a default that no schema gives
MISSING = object()


def plain(value: Any) -> Any:
    """The same value of plain dicts and lists, which YAML can write safely."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def config_text(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, keys sorted."""
    import yaml

    return yaml.safe_dump(plain(config), sort_keys=True, allow_unicode=True)


def assumptions(config: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Keys that the schema marks as assumptions, with their values; baselines have no network."""
    models = {
        name: model if is_network(model) else {key: value for key, value in model.items() if key != "network"}
        for name, model in config["models"].items()
    }
    defaults = complete_config({"study": config["study"]})
    yield from _assumed({**config, "models": models}, config_schema(), defaults, ())


def _assumed(value: Any, schema: Mapping[str, Any], default: Any, where: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if where and "assumption" in schema.get("description", "").lower():
        yield {"key": ".".join(where), "value": _shown(value), "reason": _reason(value, schema, default)}
    if not isinstance(value, Mapping):
        return
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    known = default if isinstance(default, Mapping) else {}
    for key in [*(key for key in properties if key in value), *(key for key in value if key not in properties)]:
        subschema = properties.get(key, extra)
        if isinstance(subschema, Mapping):
            usual = known.get(key, subschema.get("default", MISSING))
            yield from _assumed(value[key], subschema, usual, (*where, str(key)))


def _reason(value: Any, schema: Mapping[str, Any], default: Any) -> str:
    """The description, which gives the default's reason; of another value only that it is another."""
    if default is MISSING or isinstance(value, Mapping) or plain(value) == plain(default):
        return schema["description"]
    return f"Changed from {_shown(default)}: the study's own assumption, for its author to give the reason of."


def _shown(value: Any) -> str:
    return config_text({"v": value})[3:].strip()
