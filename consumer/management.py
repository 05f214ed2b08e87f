"""The management API: one broker's, over HTTP, with the user and password of its URL."""

import base64
import email.utils
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import override

TIMEOUT_S = 5.0
_REASON = 300
"""Characters of an answer's own words that are told."""
_NO_URL = (
    "its URL cannot be read: it is http://user:password@host:15672, and what is special in user "
    "and password is written with %"
)


class ManagementError(Exception):
    """The API did not do it; the message tells why, without user or password."""

    def __init__(self, problem: str, status: int | None = None) -> None:
        super().__init__(problem)
        self.status = status
        """HTTP status of the answer; None where there was none that can be read."""

    @property
    def denied(self) -> bool:
        """Whether the user, or its password or tag, was not enough."""
        return self.status in {401, 403}


API_ERRORS = (ManagementError, AttributeError, KeyError, TypeError)
"""What reading the API raises when it is away, dies or answers otherwise than RabbitMQ."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the API answered."""

    body: Any
    at: datetime | None
    """The broker's clock, cut to whole seconds."""


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: user and password would be told there."""

    @override
    def redirect_request(self, *_: Any) -> None:
        return None


class ManagementApi:
    """Speaks to one API. Nobody in between is asked: no proxy."""

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:  # a bracket in the password; whoever asks is told
            parts = urllib.parse.urlsplit("")
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self._base = f"{urllib.parse.urlunsplit(bare).rstrip('/')}/api"
        self._headers = {"Content-Type": "application/json"}
        if parts.username is not None:
            words = (
                urllib.parse.unquote(part or "") for part in (parts.username, parts.password)
            )
            token = base64.b64encode(":".join(words).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _StayHere())

    def get(self, path: str) -> Any:
        """Return what a path holds. Raises ManagementError."""
        return self.ask("GET", path).body

    def put(self, path: str, body: dict[str, Any]) -> None:
        """Write `body` there. Raises ManagementError."""
        self.ask("PUT", path, body)

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Add `body` there. Raises ManagementError."""
        self.ask("POST", path, body)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Told:
        """Return the answer. Raises ManagementError."""
        if "://" not in self._base:
            raise ManagementError(_NO_URL)
        try:
            return self._ask(method, path, body)
        except urllib.error.HTTPError as error:
            with error:
                raise ManagementError(_refusal(error), error.code) from None
        except http.client.InvalidURL:
            # Its own words hold what it took for the port: a part of the password.
            raise ManagementError(_NO_URL) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            raise ManagementError(problem) from None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Told:
        request = urllib.request.Request(  # noqa: S310 - the operator's own URL
            f"{self._base}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers=self._headers,
        )
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            date = answer.headers["Date"]
            text = answer.read()
            return Told(
                json.loads(text) if text else None,
                None if date is None else email.utils.parsedate_to_datetime(date),
            )


def may_see(api: ManagementApi, path: str) -> list[dict[str, Any]] | None:
    """Return what a path lists; None where our user may not see it. Raises ManagementError."""
    try:
        found: list[dict[str, Any]] = api.get(path)
    except ManagementError as error:
        if error.denied:
            return None
        raise
    return found


def quoted(name: str) -> str:
    """Return a name as it stands in a path of the API."""
    return urllib.parse.quote(name, safe="")


def _refusal(error: urllib.error.HTTPError) -> str:
    """Return the status, with the broker's reason where it gives one beyond the status."""
    told = f"it answers {error.code} {error.reason}"
    try:
        reason = json.loads(error.read()).get("reason")
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return told
    if error.code in {401, 403, 404} or not isinstance(reason, str):
        return told
    return f"{told}: {reason[:_REASON]}"
