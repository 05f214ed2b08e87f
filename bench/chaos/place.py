"""The place: one consumer behind its link, what it was handed, and what it says in its log."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.chaos.proxy import BASIC_DELIVER, SETTLING, Frame, Link
from bench.chaos.services import Consumer


@dataclass(slots=True)
class Place:
    """One consumer with its link."""

    name: str
    link: Link
    folder: Path
    served: Consumer | None = None
    ended: list[int] = field(default_factory=list)
    """Exit codes since the row began."""
    deliveries: list[tuple[float, Frame]] = field(default_factory=list)
    """Requests that were handed to it, with the loop's time."""
    _unsettled: set[tuple[int, int, int]] = field(default_factory=set)
    paused: bool = False
    """Stopped by a signal: it is not asked for anything."""

    @property
    def alive(self) -> Consumer:
        """The process, which must be there."""
        if self.served is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.served

    def watch(self, frame: Frame) -> None:
        """Write down the requests that are handed out, and those that are settled."""
        if frame.method == BASIC_DELIVER and is_request(frame, self.name):
            self.deliveries.append((asyncio.get_running_loop().time(), frame))
            self._unsettled.add((frame.connection, frame.channel, _delivery_tag(frame)))
        elif frame.sender == "client" and frame.method in SETTLING:
            tag = int.from_bytes(frame.raw[11:19], "big")
            self._unsettled.discard((frame.connection, frame.channel, tag))

    @property
    def newest_delivery(self) -> Frame | None:
        """The last request that it was handed, if the connection still stands."""
        if not self.deliveries or not self.link.stands(self.deliveries[-1][1].connection):
            return None
        return self.deliveries[-1][1]

    @property
    def unsettled(self) -> int:
        """Requests that it was handed on connections that stand, and has not settled."""
        return sum(self.link.stands(connection) for connection, _, _ in self._unsettled)

    def records(self, event: str, since: float, **fields: object) -> list[dict[str, Any]]:
        """Return its log records of an event since a moment, in seconds since 1970."""
        return [
            record
            for record in (self.served.records if self.served else [])
            if record.get("event") == event
            and moment(record) >= since
            and all(record.get(name) == value for name, value in fields.items())
        ]


def is_request(frame: Frame, worker: str) -> bool:
    """Tell whether a delivery is of the consumer of requests: its tag begins with the worker."""
    size = frame.raw[11]
    return frame.raw[12 : 12 + size].decode(errors="replace").startswith(f"{worker}.")


def _delivery_tag(frame: Frame) -> int:
    start = 12 + frame.raw[11]
    return int.from_bytes(frame.raw[start : start + 8], "big")


def moment(record: dict[str, Any]) -> float:
    """Return a log record's time in seconds since 1970."""
    return datetime.fromisoformat(record["timestamp"]).timestamp()


def now() -> float:
    """Return the time as log records have it, in seconds since 1970."""
    return datetime.now(tz=UTC).timestamp()
