"""The queries: who asks over AMQP what became of a job is answered, best effort."""

import asyncio
import re
from collections.abc import Callable
from uuid import uuid4

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from consumer.connection import Broker, LinkLostError
from consumer.flights import Flights
from consumer.forecast import Outlook, standing
from consumer.keeper import LOST, Keeper
from consumer.logs import logger
from consumer.presence import DIRECT_REPLY_TO, is_forged
from consumer.status import job_status
from consumer.store import NO_LINE, Line, Record, Wanted
from consumer.topology import MAY_CANCEL_ANY, OWN_OBJECTS
from schemas.base import Contract
from schemas.control import JOBS_TYPE, STATUS_TYPE, JobsQuery, StatusQuery
from schemas.status import CURSOR_PATTERN, JobList, JobStatus

log = logger(__name__)

ANSWER_TIMEOUT_S = 5.0
AT_ONCE = 16
"""Queries under way; beyond it they are dropped, and asked again by who still wants to know."""


class Queries:
    """Answers the queries of the control exchange, from the store and from what is under way."""

    def __init__(
        self,
        store: Keeper,
        flights: Flights,
        broker: Broker,
        outlook: Callable[[], Outlook],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._store = store
        self._flights = flights
        self._broker = broker
        self._outlook = outlook
        self._tasks = tasks
        self._under_way = 0

    def put(self, query: StatusQuery | JobsQuery, message: AbstractIncomingMessage) -> None:
        """Have a query answered; returns at once."""
        reply_to = message.reply_to or ""
        if not reply_to or reply_to in OWN_OBJECTS or is_forged(reply_to):
            log.warning("query_without_address", op=query.op)
        elif self._under_way < AT_ONCE:
            self._under_way += 1
            self._tasks.create_task(self._see_to(query, message))

    async def _see_to(
        self, query: StatusQuery | JobsQuery, message: AbstractIncomingMessage
    ) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await self._answer(query, message.user_id)
                if answer is not None:
                    await self._send(answer, message)
        except (*LOST, LinkLostError, TimeoutError, ValueError) as error:
            log.info("query_unanswered", op=query.op, problem=str(error))
        except Exception:
            log.exception("query_broke", op=query.op)
        finally:
            self._under_way -= 1

    async def _answer(
        self, query: StatusQuery | JobsQuery, user_id: str | None
    ) -> JobStatus | JobList | None:
        """Return what this user may know; None where another consumer knows it better."""
        may_see_all = user_id in MAY_CANCEL_ANY
        if isinstance(query, JobsQuery):
            whose = None if may_see_all else user_id or ""
            wanted = Wanted(query.limit, cursor_of(query.before), user_id=whose)
            records = await self._store.recent(wanted)
            line = await self._store.line()
            jobs = tuple(self._status(record, line) for record in records)
            return JobList(jobs=jobs, next=next_of(records, query.limit))
        record = await self._store.find(query.job_id)
        if record is None or not (may_see_all or record.user_id in {None, user_id}):
            return None
        if record.status == "running" and not self._flights.here(record.id):
            return None
        line = await self._store.line() if record.status == "queued" else NO_LINE
        return self._status(record, line)

    def _status(self, record: Record, line: Line) -> JobStatus:
        place = standing(record.id, line, self._outlook())
        return job_status(record, step=self._flights.step(record.id), standing=place)

    async def _send(self, answer: Contract, message: AbstractIncomingMessage) -> None:
        reply_to = message.reply_to or ""
        reply = aio_pika.Message(
            answer.model_dump_json().encode(),
            content_type="application/json",
            type=STATUS_TYPE if isinstance(answer, JobStatus) else JOBS_TYPE,
            message_id=str(uuid4()),
            correlation_id=message.correlation_id,
            delivery_mode=DeliveryMode.NOT_PERSISTENT,
        )
        mandatory = not reply_to.startswith(DIRECT_REPLY_TO)
        await self._broker.publish("", reply_to, reply, mandatory=mandatory)


def cursor_of(text: str | None) -> tuple[int, str] | None:
    """Return the last job of the page before.

    Raises:
        ValueError: it is none that we gave.
    """
    if text is None:
        return None
    if not re.fullmatch(CURSOR_PATTERN, text, re.ASCII) or text.endswith("\n"):
        raise ValueError("no cursor of ours")
    created, _, job_id = text.partition(".")
    return int(created), job_id


def next_of(records: list[Record], limit: int) -> str | None:
    """Return what continues a page; None where it was not full."""
    if len(records) < limit:
        return None
    return f"{records[-1].created}.{records[-1].id}"
