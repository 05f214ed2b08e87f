"""The web: every address of the chat, each a few lines."""

import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from examples.chat.accounts import Accounts, User, is_name
from examples.chat.answers import Answers
from examples.chat.conversations import Conversations, Message
from examples.chat.gallery import Gallery
from examples.chat.guard import COOKIE, Guarded, check_token, cookie_of, signed_in, texts
from examples.chat.refusal import Refusal
from examples.chat.sessions import LASTS, Sessions, new_cookie
from examples.chat.settings import Settings
from examples.chat.shown import attachment, message
from examples.chat.stream import Stream
from examples.chat.studio import Studio
from examples.chat.tabs import Tabs
from examples.chat.throttle import Throttle

log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page")
_FILES = {
    **dict.fromkeys(("chat.js", "calls.js", "cards.js"), "text/javascript"),
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_LATEST = 2**62
"""An id that no message reaches."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the addresses stand on."""

    settings: Settings
    accounts: Accounts
    sessions: Sessions
    conversations: Conversations
    gallery: Gallery
    studio: Studio
    tabs: Tabs
    answers: Answers


class Web:
    """The addresses."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stream = Stream(parts.conversations, parts.tabs, self._shown)
        # The same name from elsewhere has tries left: nobody locks another out by guessing.
        self._here = Throttle(tries=5, within_s=300)
        self._by_name = Throttle(tries=50, within_s=300)
        self._by_address = Throttle(tries=100, within_s=300)
        self._new_accounts = Throttle(tries=60, within_s=600)

    def application(self) -> ASGIApp:
        """Return them all as an application, which has the studio open while it runs."""
        application = Starlette(
            routes=[
                Route("/", self._page),
                Route("/page/{name}", self._file),
                Route("/api/me", self._me),
                Route("/api/sign-up", self._sign_up, methods=["POST"]),
                Route("/api/sign-in", self._sign_in, methods=["POST"]),
                Route("/api/sign-out", self._sign_out, methods=["POST"]),
                Route("/api/conversation", self._conversation),
                Route("/api/events", self._events),
                Route("/api/messages", self._say, methods=["POST"]),
                Route("/api/pictures/{id}", self._picture),
                Route("/api/pictures/{id}/again", self._again, methods=["POST"]),
                Route("/api/pictures/{id}/edit", self._edit, methods=["POST"]),
                Route("/api/pictures/{id}/cancel", self._cancel, methods=["POST"]),
            ],
            middleware=[
                Middleware(
                    TrustedHostMiddleware,
                    allowed_hosts=list(self._parts.settings.allowed_hosts),
                    www_redirect=False,
                ),
            ],
            exception_handlers={Refusal: _refused, sqlite3.OperationalError: _not_written},
            lifespan=self._lifespan,
        )
        # Around it all: what Starlette answers to a defect goes past its own middleware.
        return Guarded(application)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self._parts.studio.open():
            yield

    # ---------------------------------------------------------------- who one is

    async def _page(self, _: Request) -> Response:
        return FileResponse(_PAGE / "index.html", media_type="text/html")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            raise Refusal(404, "There is no such file.")
        return FileResponse(_PAGE / name, media_type=_FILES[name])

    async def _me(self, request: Request) -> Response:
        """Tell who is signed in, and the token for what the page will ask for."""
        cookie = cookie_of(request)
        user = self._parts.sessions.user(cookie)
        return self._known(user, cookie or new_cookie(), new=not cookie)

    async def _sign_up(self, request: Request) -> Response:
        check_token(request, self._parts.sessions)
        name, password = await texts(request, "name", "password")
        _pace((self._new_accounts, _address(request)))
        return self._begin(request, await self._parts.accounts.sign_up(name, password))

    async def _sign_in(self, request: Request) -> Response:
        check_token(request, self._parts.sessions)
        name, password = await texts(request, "name", "password")
        # A name that nobody can have is not remembered either, however long it is.
        user = await self._known_by(request, name, password) if is_name(name) else None
        if user is None:
            raise Refusal(401, "Name and password do not go together.")
        return self._begin(request, user)

    async def _known_by(self, request: Request, name: str, password: str) -> User | None:
        name, where = name.lower(), _address(request)
        here = f"{name} {where}"
        _pace((self._here, here), (self._by_name, name), (self._by_address, where))
        user = await self._parts.accounts.sign_in(name, password)
        if user is not None:
            self._here.forget(here)
        return user

    async def _sign_out(self, request: Request) -> Response:
        self._author(request)
        self._end(request)
        return self._known(None, new_cookie(), new=True)

    def _end(self, request: Request) -> None:
        """End the session that a request came with, if any, and its streams."""
        user = self._parts.sessions.user(cookie_of(request))
        if user is not None:
            self._parts.sessions.end(cookie_of(request))
            self._parts.tabs.wake(user.id)

    def _begin(self, request: Request, user: User) -> Response:
        self._end(request)
        return self._known(user, self._parts.sessions.begin(user), new=True)

    def _known(self, user: User | None, cookie: str, *, new: bool) -> Response:
        response = JSONResponse(
            {"user": user and user.name, "token": self._parts.sessions.token(cookie)}
        )
        if new:
            response.set_cookie(
                COOKIE,
                cookie,
                max_age=int(LASTS.total_seconds()),
                httponly=True,
                samesite="strict",
                secure=self._parts.settings.secure_cookie,
            )
        return response

    # ---------------------------------------------------------------- what one sees

    async def _conversation(self, request: Request) -> Response:
        """The latest messages, or those before one, and the number to hear news from."""
        user = signed_in(request, self._parts.sessions)
        before = _number(request.query_params.get("before", str(_LATEST)))
        # Read first: what changes in between is told twice rather than never.
        since = self._parts.conversations.latest()
        told = self._parts.conversations.before(user, before)
        shown = [self._shown(user, one) for one in told]
        return JSONResponse({"messages": shown, "since": since})

    async def _events(self, request: Request) -> Response:
        user = signed_in(request, self._parts.sessions)
        self._parts.tabs.check_room(user.id)
        cookie = cookie_of(request)
        since = request.headers.get("last-event-id") or request.query_params.get("since", "0")
        events = self._stream.events(
            user, _number(since), lambda: self._parts.sessions.user(cookie) is not None
        )
        return StreamingResponse(events, media_type="text/event-stream")

    async def _picture(self, request: Request) -> Response:
        """The file as the service made it; with `?download` it is saved under its prompt."""
        user = signed_in(request, self._parts.sessions)
        id_ = request.path_params["id"]
        file = self._parts.gallery.file(user, id_)
        if file is None:
            raise Refusal(404, "There is no such picture.")
        # With another cookie what a browser has kept is not asked for: two may share a browser.
        headers = {"cache-control": "private, max-age=31536000, immutable", "vary": "cookie"}
        if "download" in request.query_params:
            headers["content-disposition"] = attachment(
                self._parts.gallery.of(user, id_).order.prompt
            )
        return Response(file, media_type="image/png", headers=headers)

    def _shown(self, user: User, told: Message) -> dict[str, Any]:
        if told.picture is None:
            return message(told, None, None)
        picture = self._parts.gallery.of(user, told.picture)
        return message(told, picture, self._parts.tabs.step(told.picture))

    # ---------------------------------------------------------------- what one does

    async def _say(self, request: Request) -> Response:
        user = self._author(request)
        (text,) = await texts(request, "text")
        self._parts.answers.message(user, text)
        return _done()

    async def _again(self, request: Request) -> Response:
        self._parts.answers.again(self._author(request), request.path_params["id"])
        return _done()

    async def _edit(self, request: Request) -> Response:
        user = self._author(request)
        (prompt,) = await texts(request, "prompt")
        self._parts.answers.edit(user, request.path_params["id"], prompt)
        return _done()

    async def _cancel(self, request: Request) -> Response:
        self._parts.answers.cancel(self._author(request), request.path_params["id"])
        return _done()

    def _author(self, request: Request) -> User:
        """Return who changes something, by a page of ours."""
        check_token(request, self._parts.sessions)
        return signed_in(request, self._parts.sessions)


def _address(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else ""


def _pace(*tries: tuple[Throttle, str]) -> None:
    """Count a try. Raises Refusal, and counts nothing, where one of the throttles is shut.

    Counted before it is known whether it goes well: a hundred tries at once are a hundred tries.
    """
    now = time.monotonic()
    wait_s = max(throttle.wait_s(name, now) for throttle, name in tries)
    if wait_s:
        raise Refusal(429, f"Too many tries. Wait {wait_s} seconds.", retry_after_s=wait_s)
    for throttle, name in tries:
        throttle.count(name, now)


def _done() -> Response:
    """What came of it is told to all pages of the user alike, by their streams."""
    return JSONResponse({}, status_code=202)


def _number(text: str) -> int:
    # Python refuses to read numbers of thousands of digits, by an error.
    plain = text.isascii() and text.isdecimal() and len(text) <= len(str(_LATEST))
    if not plain or int(text) > _LATEST:
        raise Refusal(400, "That is no number of a message.")
    return int(text)


async def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101 - what it is registered for
    wait = refusal.retry_after_s
    headers = None if wait is None else {"retry-after": str(int(wait))}
    return JSONResponse({"error": refusal.sentence}, refusal.status, headers)


async def _not_written(_: Request, error: Exception) -> Response:
    log.error("The file cannot be used: %s", error)
    words = "The chat cannot write anything down at the moment. Try again in a minute."
    return JSONResponse({"error": words}, 503, {"retry-after": "60"})
