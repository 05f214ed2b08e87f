"""Writes every generated file of the repository, or with --check tells which are out of date."""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from typing_extensions import override

from consumer import topology
from consumer.settings import Settings
from tools import asyncapi, configuration, http_page, metrics, openapi, states

ROOT = Path(__file__).resolve().parent.parent


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _yaml(document: object) -> str:
    head = "# Made by `make generate` from schemas/, consumer/topology.py and the settings.\n"
    return head + yaml.dump(
        document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=96
    )


class _Plain(yaml.SafeDumper):
    """Writes equal parts out each time instead of pointing at the first."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        return True


def _model_schema(name: str) -> str:
    return _json(asyncapi.json_schema(name))


def _bound() -> int:
    return int(Settings.model_fields["max_queue_size"].default)


FILES: dict[str, Callable[[], str]] = {
    "rabbitmq/definitions.json": lambda: _json(topology.definitions(_bound())),
    "rabbitmq/definitions.cluster.json": lambda: _json(
        topology.definitions(_bound(), cluster=True)
    ),
    "rabbitmq/users.json": lambda: _json(topology.users()),
    "rabbitmq/users.hardened.json": lambda: _json(topology.users(hardened=True)),
    "schemas/asyncapi.yaml": lambda: _yaml(asyncapi.document(_bound())),
    "schemas/openapi.json": lambda: _json(openapi.document()),
    "docs/http-api.md": http_page.markdown,
    "docs/configuration.md": configuration.markdown,
    ".env.example": configuration.env_example,
    "docs/states.md": states.markdown,
    "docs/metrics.md": metrics.markdown,
    **{
        f"schemas/json/{name}.schema.json": functools.partial(_model_schema, name)
        for name in asyncapi.MODELS
    },
}
"""Path below the root, and what makes its content."""


def stale() -> list[str]:
    """Return the generated files whose content is not what the code says."""
    return [name for name, make in FILES.items() if _read(ROOT / name) != make()]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main() -> int:
    """Write or check. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    names = stale()
    for name in names:
        print(f"{'out of date' if arguments.check else 'written'}: {name}")
        if not arguments.check:
            path = ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FILES[name](), encoding="utf-8")
    return 1 if arguments.check and names else 0


if __name__ == "__main__":
    sys.exit(main())
