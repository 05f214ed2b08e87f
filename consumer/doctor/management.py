"""The management API as it is found: the broker's version, clock, alarms, queues and exchanges."""

import base64
import email.utils
import http.client
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

ASK_S = 5.0
HALF_SECOND = timedelta(seconds=0.5)
"""A Date header is cut to whole seconds."""


@dataclass(frozen=True, slots=True)
class Managed:
    """What the management API tells."""

    problem: str | None = None
    """Why it tells nothing."""
    version: str = ""
    ahead_s: float = 0.0
    """Seconds that the broker's clock is ahead of ours, give or take half a second."""
    alarms: tuple[str, ...] = ()
    queues: tuple[dict[str, Any], ...] = ()
    exchanges: tuple[dict[str, Any], ...] = ()
    bindings: tuple[dict[str, Any], ...] = ()


class _Api:
    """One broker's API, with the user and password of its URL."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self._base = f"{urllib.parse.urlunsplit(bare).rstrip('/')}/api"
        self._headers = {}
        if parts.username is not None:
            words = (
                urllib.parse.unquote(part or "") for part in (parts.username, parts.password)
            )
            token = base64.b64encode(":".join(words).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> tuple[Any, datetime | None]:
        """Return what a path holds, and the time there."""
        request = urllib.request.Request(  # noqa: S310 - the operator's own URL
            f"{self._base}/{path}", headers=self._headers
        )
        with self._opener.open(request, timeout=ASK_S) as answer:
            date = answer.headers["Date"]
            told = None if date is None else email.utils.parsedate_to_datetime(date)
            return json.loads(answer.read()), told


def look(url: str, vhost: str) -> Managed:
    """Ask the API for what can be compared."""
    try:
        return _look(_Api(url), urllib.parse.quote(vhost, safe=""))
    except urllib.error.HTTPError as error:
        with error:
            return Managed(f"it answers {error.code} {error.reason}")
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return Managed(str(getattr(error, "reason", error)) or type(error).__name__)


def _look(api: _Api, vhost: str) -> Managed:
    before = datetime.now(tz=UTC)
    overview, there = api.get("overview")
    here = before + (datetime.now(tz=UTC) - before) / 2
    ahead = timedelta(0) if there is None else there + HALF_SECOND - here
    return Managed(
        version=str(overview.get("rabbitmq_version", "")),
        ahead_s=ahead.total_seconds(),
        alarms=tuple(_alarms(api)),
        queues=tuple(api.get(f"queues/{vhost}")[0]),
        exchanges=tuple(api.get(f"exchanges/{vhost}")[0]),
        bindings=tuple(api.get(f"bindings/{vhost}")[0]),
    )


def _alarms(api: _Api) -> Iterator[str]:
    """Give what the nodes are short of; nothing where our user may not see it."""
    try:
        nodes, _ = api.get("nodes")
    except urllib.error.HTTPError as error:
        error.close()
        return
    for node in nodes:
        for alarm, what in (("mem_alarm", "memory"), ("disk_free_alarm", "disk")):
            if node.get(alarm):
                yield f"{node.get('name')} is short of {what}"
