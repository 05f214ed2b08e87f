"""The pages on settings, made from the settings themselves."""

from typing import Any

from pydantic.fields import FieldInfo

from consumer.settings import PREFIX, Settings

_SECTIONS = {
    "host": "HTTP",
    "model": "Model and drawing",
    "amqp_url": "Broker",
    "data_dir": "Store",
    "job_timeout_s": "Times",
    "embed_metadata": "Pictures and logs",
}
"""The first setting of each section."""


def markdown() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Made from `consumer/settings.py` by `make generate`; do not edit.",
        "",
        f"Every setting is read once, at the start, from `{PREFIX}<NAME>`, else from the file that",
        f"`{PREFIX}<NAME>_FILE` names, else from `/run/secrets/image_gen_<name>`. An empty value counts",
        "as not given. A misspelt name, a value out of range or two that contradict each other stop",
        "the start with exit code 78 and a sentence for each. `imagegen config` shows what is in",
        "force.",
    ]
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            lines += [
                "",
                f"## {_SECTIONS[name]}",
                "",
                "| setting | default | what it does |",
                "|---|---|---|",
            ]
        lines.append(
            f"| `{PREFIX}{name.upper()}` | {_default(field, '—')} | {_range(name, field)} |"
        )
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """Return .env.example."""
    lines = [
        "# Every setting with its default; copy to .env and change what you need.",
        "# Made from consumer/settings.py by `make generate`; do not edit.",
    ]
    for name, field in Settings.model_fields.items():
        lines += [
            "",
            f"# {_range(name, field)}",
            f"#{PREFIX}{name.upper()}={_default(field, '', quote='')}",
        ]
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo, none: str, quote: str = "`") -> str:
    if field.default_factory is not None:
        return none
    value: Any = field.get_default()
    if value is None:
        return none
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{quote}{text}{quote}"


def _range(name: str, field: FieldInfo) -> str:
    """Return the description with the range of values, where there is one."""
    schema = Settings.model_json_schema()["properties"][name]
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    text = (field.description or "").replace("\n", " ")
    if low is not None or above is not None:
        bottom = f"{low:,g}" if low is not None else f"above {above:,g}"
        text += f" Range: {bottom}" + (f" to {high:,g}." if high is not None else " and up.")
    return text
