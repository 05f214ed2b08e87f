"""The safety: who may speak to the job API, from where, and what no answer goes without."""

import asyncio
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumer.errors import Fault
from consumer.http import openai_errors
from consumer.http.problems import ProblemError
from consumer.logs import logger
from schemas.errors import ErrorCode

log = logger(__name__)

SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is given up."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{0,5})?")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_OWN_SITE = frozenset({"same-origin", "none"})
_ALWAYS = {
    # Nobody's page may embed a picture of ours, or have it taken for something else.
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class _TooSlowError(Exception):
    """The client takes nothing; does not leave this file."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is let through."""

    hosts: frozenset[str]
    """Names that a request may be addressed to, in lower case, without a port."""
    token: bytes | None
    """What a caller of the job API has to show; None: nothing."""
    open_paths: frozenset[str]
    """For anybody, under any name: what a probe asks."""
    tokenless_paths: frozenset[str]
    """Under our names only, but without a token."""


class Safety:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send(message)
            except TimeoutError:
                raise _TooSlowError from None

        try:
            _check(scope["method"], scope["path"], Headers(scope=scope), self._rules)
        except ProblemError as error:
            await self._answer(
                openai_errors.told(scope["path"], error), scope, receive, send_in_time
            )
        else:
            await self._answer(self._app, scope, receive, send_in_time)

    @staticmethod
    async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except _TooSlowError:
            # uvicorn closes the connection of an answer that was not finished.
            log.info("http_client_too_slow", path=scope["path"])


def _check(method: str, path: str, headers: Headers, rules: Rules) -> None:
    """Raise ProblemError for a request that may not pass."""
    if path in rules.open_paths:
        return
    _check_host(headers.get("host", ""), rules.hosts)
    if method in _WRITES:
        _check_origin(headers)
    if rules.token is not None and path not in rules.tokenless_paths:
        _check_token(headers.get("authorization", ""), rules.token)


def _check_host(host: str, allowed: Iterable[str]) -> None:
    """A page whose name was made to point at this machine sends that name (DNS rebinding)."""
    if name_of(host) not in allowed:
        message = (
            "This name is not one of the service's. "
            "Use one that it knows, or add it to IMAGE_GEN_ALLOWED_HOSTS."
        )
        raise ProblemError(Fault(ErrorCode.FORBIDDEN, message))


def name_of(host: str) -> str:
    """Return the name or address of a Host header, without its port; empty if it is none.

    Strictly: to a parser of URLs `evil.example@localhost` and `localhost/x` are localhost, too.
    """
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def _check_origin(headers: Headers) -> None:
    """A browser says where a page came from that would have something done here."""
    origin = headers.get("origin")
    foreign = origin is not None and _netloc(origin) != headers.get("host", "").lower()
    if foreign or headers.get("sec-fetch-site", "none") not in _OWN_SITE:
        message = "Pages from elsewhere may not have anything done here. Call from a program."
        raise ProblemError(Fault(ErrorCode.FORBIDDEN, message))


def _netloc(origin: str) -> str | None:
    """Return host and port of an origin; None where it has none, as `null`."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _check_token(authorization: str, token: bytes) -> None:
    scheme, _, shown = authorization.partition(" ")
    given = shown.strip().encode() if scheme.lower() == "bearer" else b""
    if not hmac.compare_digest(given, token):
        message = "Send the header `Authorization: Bearer TOKEN` with IMAGE_GEN_API_TOKEN."
        fault = Fault(ErrorCode.UNAUTHORIZED, message)
        raise ProblemError(fault, headers={"WWW-Authenticate": "Bearer"})
