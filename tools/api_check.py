"""Asks a running service whatever schemathesis can think of, and judges by the OpenAPI document.

`python -m tools.api_check --url http://127.0.0.1:8034 [--token T] [--cases N] [--seed N]`

Fails on an answer that the document does not allow, on a promise of tools/api_hooks.py that is
broken, and on a warning of schemathesis, which means that something could not be tried.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemathesis.cli import schemathesis as command_line

from tools import api_hooks, openapi

CONFIG = Path(__file__).with_name("api_check.toml")
PHASES = "examples,coverage,fuzzing,stateful"


def main(arguments: list[str] | None = None) -> int:
    """Ask, print the answers by operation, and return the exit code."""
    given = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="imagegen-api-") as folder:
        document = Path(folder) / "openapi.json"
        document.write_text(json.dumps(_document(given.token)), encoding="utf-8")
        os.chdir(folder)  # it leaves files where it runs
        code = _run(_words(document, given))
    print(_table())
    asked = sum(api_hooks.cases.values())
    print(f"\n{asked:,} requests")
    if asked < given.at_least:
        print(f"fewer than the {given.at_least:,} that were to be asked", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of the service")
    parser.add_argument("--token", help="its IMAGE_GEN_API_TOKEN")
    parser.add_argument("--cases", type=int, default=400, help="made up for each operation")
    parser.add_argument("--at-least", type=int, default=0, help="fail below so many requests")
    parser.add_argument("--seed", type=int, help="ask the same again")
    parser.add_argument("--phases", default=PHASES)
    return parser


def _document(token: str | None) -> dict[str, Any]:
    return openapi.document() if token is None else openapi.with_token(openapi.document())


def _words(document: Path, given: argparse.Namespace) -> Iterable[str]:
    yield from ("--config-file", str(CONFIG), "--no-color", "run", str(document))
    yield from ("--url", given.url, "--phases", given.phases)
    yield from ("--max-examples", str(given.cases))
    if given.seed is not None:
        yield from ("--seed", str(given.seed))
    if given.token is not None:
        yield from ("--header", f"Authorization: Bearer {given.token}")


def _run(words: Iterable[str]) -> int:
    try:
        command_line.main(args=list(words))
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1


def _table() -> str:
    """Return how often each operation answered with which status."""
    lines = ["| operation | requests | by status |", "|---|---:|---|"]
    for label in dict.fromkeys(name for name, _ in api_hooks.cases):
        statuses = {status: n for (name, status), n in api_hooks.cases.items() if name == label}
        shown = ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items()))
        lines.append(f"| {label} | {sum(statuses.values())} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
