"""The guard: what no answer of the chat goes without, and what no request comes in without."""

import asyncio
import json
import unicodedata
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.chat.accounts import User
from examples.chat.refusal import Refusal
from examples.chat.sessions import Sessions

COOKIE = "imagegen_chat"
TOKEN_HEADER = "x-csrf-token"  # noqa: S105 - a header's name
BODY_MOST = 32 * 1024
"""Bytes; 4,000 characters of any script fit."""
BODY_TIMEOUT_S = 10.0

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guarded:
    """An application whose every answer has HEADERS, unless it says something else itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with the headers."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, guarded if scope["type"] == "http" else send)


def signed_in(request: Request, sessions: Sessions) -> User:
    """Return who asks. Raises Refusal where nobody is signed in."""
    user = sessions.user(cookie_of(request))
    if user is None:
        raise Refusal(401, "Sign in first.")
    return user


def check_token(request: Request, sessions: Sessions) -> None:
    """Raise Refusal where a page of ours did not make the request."""
    if not sessions.is_token(cookie_of(request), request.headers.get(TOKEN_HEADER, "")):
        raise Refusal(403, "This page is out of date. Reload it.")


def cookie_of(request: Request) -> str:
    """Return the cookie; empty where there is none."""
    return request.cookies.get(COOKIE, "")


async def texts(request: Request, *names: str) -> list[str]:
    """Return these texts of a JSON body.

    Raises:
        Refusal: the body is too large or too slow, no JSON, or lacks one.
    """
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refusal(415, "Send JSON.")
    try:
        body: Any = json.loads(await _body(request))
        found = [body[name] for name in names]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refusal(400, f"Send a JSON object with {', '.join(names)}.") from None
    if not all(isinstance(text, str) and _is_plain(text) for text in found):
        raise Refusal(400, f"{', '.join(names)}: send plain text.")
    return found


def _is_plain(text: str) -> bool:
    """Whether it has neither control characters nor halves of characters."""
    kinds = {unicodedata.category(character) for character in text if character not in "\n\r\t"}
    return not kinds & {"Cc", "Cs"}


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_MOST:
                    raise Refusal(413, "That is too long.")
    except TimeoutError:
        raise Refusal(408, "The request came too slowly.") from None
    return body
