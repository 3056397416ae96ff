"""The effective configuration as the report shows it, and which of its keys are assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ct2vq.config import config_schema, is_network


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
    yield from _assumed({**config, "models": models}, config_schema(), ())


def _assumed(value: Any, schema: Mapping[str, Any], where: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if where and "assumption" in schema.get("description", "").lower():
        yield {"key": ".".join(where), "value": config_text({"v": value})[3:].strip(), "reason": schema["description"]}
    if not isinstance(value, Mapping):
        return
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    for key in [*(key for key in properties if key in value), *(key for key in value if key not in properties)]:
        subschema = properties.get(key, extra)
        if isinstance(subschema, Mapping):
            yield from _assumed(value[key], subschema, (*where, str(key)))
