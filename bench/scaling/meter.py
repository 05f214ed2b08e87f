"""The meter: what broker, database and processes have counted up to a moment."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from control import loopback

COUNTED = ("publish", "confirm", "deliver", "deliver_no_ack", "ack", "get_no_ack", "redeliver")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters since the start, and gauges of the moment."""

    at: float
    """Monotonic seconds."""
    messages: dict[str, int]
    """Of the broker, by what was done with them."""
    connections: int
    channels: int
    queues: int
    broker_bytes: int
    """Memory of the broker, in bytes."""
    transactions: int
    """Committed or rolled back by the store's database."""
    sessions: int
    """Connections to the store's database."""
    log_bytes: int
    """Written ahead by the database, in bytes."""
    cpu_s: dict[str, float]
    """Seconds of both kinds, by group of processes."""


class Meter:
    """Reads a broker, a database and groups of processes."""

    def __init__(self, management_url: str, server_url: str, database: str) -> None:
        self._management_url = management_url
        self._server_url = server_url
        self._database = database
        self.groups: dict[str, list[int]] = {}
        """Process ids by the group's name; descendants count too."""

    def read(self) -> Reading:
        """Return everything as of now. The broker's counters are up to 5 s old."""
        overview = self._ask("overview")
        told = overview.get("message_stats", {})
        totals = overview["object_totals"]
        node = self._ask("nodes")[0]
        transactions, sessions, log_bytes = self._of_database()
        return Reading(
            time.monotonic(),
            {name: int(told.get(name, 0)) for name in COUNTED},
            totals["connections"],
            totals["channels"],
            totals["queues"],
            int(node["mem_used"]),
            transactions,
            sessions,
            log_bytes,
            {name: cpu_s(pids) for name, pids in self.groups.items()},
        )

    def _ask(self, page: str) -> Any:
        answer = loopback.ask("GET", f"{self._management_url}/api/{page}", None, 20)
        if answer is None or answer.status != 200:
            raise RuntimeError(f"the management API does not tell {page}")
        return json.loads(answer.body)

    def _of_database(self) -> tuple[int, int, int]:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT xact_commit + xact_rollback, numbackends,"
                " pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
                " FROM pg_stat_database WHERE datname = %s",
                (self._database,),
            ).fetchone()
        if row is None:
            raise RuntimeError("the store's database is gone")
        return int(row[0]), int(row[1]), int(row[2])


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes, their descendants, and those of theirs that ended."""
    seconds = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds += times.user + times.system
            seconds += times.children_user + times.children_system
    return seconds
