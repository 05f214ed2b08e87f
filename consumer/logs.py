"""The logs: structlog for ours and the libraries' records alike, JSON unless on a terminal."""

import contextlib
import functools
import json
import logging
import math
import re
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TextIO

import structlog
from pydantic import BaseModel, SecretStr
from typing_extensions import override

from imagegen_client.nodes import nodes_in

HIDDEN = "***"
"""Stands where a secret stood."""
SECRET_LEAST = 6
"""Letters of the shortest secret that is looked for in every record; `guest` is also a word."""

_SECRET_NAMES = re.compile(
    r"passw(or)?d|secret|token|authorization|credential|api_?key", re.IGNORECASE
)
_IN_URLS = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s'\"]*@", re.IGNORECASE)
"""User and password, up to the last @: a password that was not encoded may hold one, or a /."""
_IN_HEADERS = re.compile(r"\b(?P<head>[Bb]earer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_PROMPTS = ("prompt", "negative_prompt")

_line: ContextVar[dict[str, Any] | None] = ContextVar("line", default=None)


# ---------------------------------------------------------------- what must not be told


class Scrubber:
    """Takes secrets out of what is told: by their place in it, and those it knows by value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: a URL goes before the password that is a part of it.
        told = sorted({part for secret in secrets for part in _parts(secret)}, key=len)[::-1]
        self._known = re.compile("|".join(map(re.escape, told))) if told else None

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        if "://" in text:
            text = _IN_URLS.sub(rf"\g<head>:{HIDDEN}@", text)
        if " " in text:
            text = _IN_HEADERS.sub(rf"\g<head> {HIDDEN}", text)
        return text

    def value(self, value: object, name: str = "") -> object:
        """Return a value as it may be told under this name, whatever it is made of."""
        match value:
            case None | bool() | int() | float():
                return _number(value)
            case _ if _names_a_secret(name):
                return HIDDEN
            case str():
                return self.text(value)
            case dict():
                return {str(key): self.value(inner, str(key)) for key, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(inner) for inner in value]
            case _:
                return self.text(repr(value))


def _number(value: float | None) -> float | str | None:
    """Return it as JSON can have it: there it is no number that is not finite."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@functools.lru_cache(maxsize=1000)
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def secrets_in(settings: BaseModel) -> list[str]:
    """Return the values of the settings that are secret."""
    return [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]


def _parts(secret: str) -> Iterator[str]:
    """Give what must not be told of a secret: of URLs their passwords, as written and as meant."""
    told = [secret]
    if "://" in secret:
        with contextlib.suppress(ValueError):
            urls = [urllib.parse.urlsplit(url) for url in nodes_in(secret)]
            passwords = [url.password or "" for url in urls]
            # libpq takes it there, too.
            asked = [pair for url in urls for pair in urllib.parse.parse_qsl(url.query)]
            in_query = [value for name, value in asked if _names_a_secret(name)]
            told = [*passwords, *map(urllib.parse.unquote, passwords), *in_query]
    yield from (part for part in told if len(part) >= SECRET_LEAST)


# ---------------------------------------------------------------- how it is told


class _Teller(logging.StreamHandler[TextIO]):
    """Tells of a record that cannot be told as well: the library's own way shows its arguments."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[0]
        told = {
            "event": "record_broke",
            "of": record.name,
            "place": f"{record.pathname}:{record.lineno}",
            "problem": error.__name__ if error else "unknown",
            "logger": __name__,
            "level": "error",
        }
        with contextlib.suppress(OSError, ValueError):  # there is nowhere to tell it
            self.stream.write(json.dumps(told) + self.terminator)
            self.flush()


def configure(
    log_format: str, level: str, secrets: Iterable[str] = (), *, prompts: bool = False
) -> None:
    """Send every record to standard error in one form. `log_format`: auto, json or console.

    `secrets` are told nowhere, whoever logs them; `prompts` are told only if asked for.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _Teller(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Before the scrubbing: what an exception says is not ours, and may hold anything.
                structlog.processors.format_exc_info,
                *([] if prompts else [_without_prompts]),
                _scrubbing(Scrubber(secrets)),
                _renderer(console=console),
            ],
        )
    )
    _take_all_records(handler, level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a file."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return bound


def _renderer(*, console: bool) -> structlog.typing.Processor:
    if console:
        # The pretty tracebacks show the local variables: URLs and prompts among them.
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer()


def _take_all_records(handler: logging.Handler, level: str) -> None:
    """Have everything that anybody tells told by one handler: warnings and last words, too."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiormq", "aio_pika", "uvicorn.access", "uvicorn.error"):
        # They tell every lost connection with a traceback; the supervisor tells it in a line. And
        # uvicorn tells whatever a stranger sends; where we broke, the application says so itself.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    # An exporter whose collector is away tells it at every try.
    logging.getLogger("opentelemetry").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _tell_uncaught
    threading.excepthook = lambda broken: _tell_uncaught(
        broken.exc_type, broken.exc_value, broken.exc_traceback
    )


def _tell_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if not issubclass(kind, (KeyboardInterrupt, SystemExit)):
        logging.getLogger(__name__).critical(
            "uncaught", exc_info=(kind, error or kind(), trace)
        )


def _without_prompts(
    _logger: object, _method: str, record: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in _PROMPTS:
        record.pop(name, None)
    return record


def _scrubbing(scrubber: Scrubber) -> structlog.typing.Processor:
    def scrub(
        _logger: object, _method: str, record: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for name, value in record.items():
            record[name] = scrubber.value(value, name)
        return record

    return scrub


# ---------------------------------------------------------------- one line for each job


@contextlib.contextmanager
def about(trace_id: str | None) -> Iterator[None]:
    """Begin the line that will tell of a delivery, and name its trace in every record of it.

    `note` adds to the line from wherever the delivery gets to, in the tasks that it starts, too.
    """
    token = _line.set({})
    named = {} if trace_id is None else {"trace_id": trace_id}
    try:
        with structlog.contextvars.bound_contextvars(**named):
            yield
    finally:
        _line.reset(token)


def noted() -> dict[str, Any]:
    """Return what stands on the line of the delivery that is seen to."""
    return dict(_line.get() or {})


def note(**facts: object) -> None:
    """Add facts to the line of the delivery that is seen to; nothing where there is none."""
    line = _line.get()
    if line is not None:
        line.update(facts)
