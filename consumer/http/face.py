"""The face: what the job API stands on: a client of the queue, and a way of its own to the store."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.admission import Limits
from consumer.errors import Fault
from consumer.forecast import standing
from consumer.health import Phase, Snapshot
from consumer.http.asked import Asked, ClientGoneError
from consumer.http.attention import Attention
from consumer.http.heard import Heard
from consumer.http.problems import RETRY_AFTER_S, ProblemError, fault_from, fault_of
from consumer.job import IdSource, Job, State
from consumer.logs import logger
from consumer.metrics import Metrics
from consumer.status import error_of, job_status
from consumer.store import (
    NO_LINE,
    Conflict,
    Known,
    Record,
    Store,
    StoreLostError,
    Wanted,
)
from consumer.topology import MAY_CANCEL_ANY
from imagegen_client import GeneratedImage, ImageClient, ImageError
from imagegen_client.request import request as request_for
from schemas.errors import ErrorCode
from schemas.reply import ResultFacts, Timings
from schemas.status import JobStatus

log = logger(__name__)

BROKER_PATIENCE_S = 3.0
"""How long a request waits for a broker that is away: a blip is not told to the caller."""

WORD_PATIENCE_S = 5.0
"""How long a request that nobody waits for waits for the broker's word on it; then its caller is
told of the doubt, and may send it again under its id."""

_NEVER_ANSWERS = frozenset({"busy", "unavailable"})
"""Codes that the client gives by itself: no consumer has answered."""

_CONFLICT = Fault(
    ErrorCode.IDEMPOTENCY_CONFLICT,
    "This Idempotency-Key was used before with another body. Give every request one of its own.",
)
_NOT_FOUND = Fault(
    ErrorCode.NOT_FOUND,
    "No job with this id is known here. One that came over AMQP is known once it was taken.",
)
_STOPPING = Fault(ErrorCode.UNAVAILABLE, "The service is stopping. Send it again in a while.")
_DOUBT = Fault(
    ErrorCode.UNAVAILABLE,
    "The broker's word on it did not come: it may be drawn all the same. Sent again under this "
    "Idempotency-Key it is drawn once.",
)
_CROWDED = Fault(ErrorCode.BUSY, "Too many callers wait already. Try again in a few seconds.")
_NOT_OURS = Fault(
    ErrorCode.FORBIDDEN,
    "This is another user's job, and the broker user of the HTTP face may not call it off.",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the face asks of the service that it belongs to; safe from any thread."""

    snapshot: Callable[[], Snapshot]
    limits: Callable[[], Limits]
    step: Callable[[str], int | None]
    """Denoising steps done of a job that is drawn here; None of any other."""
    metrics: Metrics


class Face:
    """Lives in the loop of the HTTP thread."""

    def __init__(
        self, service: Surroundings, store: Store, client: ImageClient, waiting_most: int
    ) -> None:
        self.service = service
        self.heard = Heard()
        self._attention = Attention(self._follow, self._unfollow)
        self._store = store
        self._client = client
        self._waiting_most = waiting_most
        self._waiting: Counter[str] = Counter()
        """Who waits for a job or follows it, by its id."""
        self._callers: Counter[str] = Counter()
        """Of these, who waits for the picture in its request."""
        self._with_callers: set[str] = set()
        """Jobs that only such callers asked for: with the last of them they are called off."""
        self._closed = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be connected as far as the broker lets us, until the end."""
        async with self._client, asyncio.TaskGroup() as tasks:
            tending = tasks.create_task(self._attention.tend())
            yield
            tending.cancel()
        await self._store.close()

    async def close(self) -> None:
        """Answer who waits that we stop. May be called twice."""
        self._closed = True
        await self._client.close()

    # ------------------------------------------------------------ ask

    async def draw(
        self, asked: Asked, gone: "asyncio.Future[None]"
    ) -> tuple[ResultFacts, bytes]:
        """Have a picture drawn, and wait for it; when the caller is `gone`, call it off.

        Raises:
            ProblemError: there is no picture.
            ClientGoneError: there is nobody to give it to.
        """
        with self.place(asked.job_id), self._call(asked.job_id) as leave:
            known = await self._write_down(asked)
            if known is None:
                self._with_callers.add(asked.job_id)
            if known is not None and known.state is State.SUCCEEDED:
                record, image = await self.picture(asked.job_id)
                if record.facts is not None:
                    return record.facts.model_copy(update={"replayed": True}), image
            try:
                drawn = await self._wait(asked, gone, leave)
                return _facts(drawn), drawn.data
            except ImageError as error:
                await self._undo(asked, known, error)
                raise self._problem(error, asked.job_id) from error

    async def send(self, asked: Asked) -> State:
        """Have a picture drawn that will be fetched by its id; return where its job stands."""
        known = await self._write_down(asked)
        self._with_callers.discard(asked.job_id)
        if known is not None and known.state in {State.RUNNING, State.SUCCEEDED}:
            return known.state
        if known is not None and known.state is not State.NEW:
            record = await self.find(asked.job_id)
            ended = error_of(record)
            if ended is not None:
                raise ProblemError(fault_from(ended), job_id=asked.job_id)
        try:
            async with asyncio.timeout(WORD_PATIENCE_S):
                await self._client.send(
                    asked.request.prompt,
                    deadline_s=asked.deadline_s,
                    job_id=asked.job_id,
                    **asked.options,
                )
        except TimeoutError as error:
            raise ProblemError(_DOUBT, job_id=asked.job_id) from error
        except ImageError as error:
            await self._undo(asked, known, error)
            raise self._problem(error, asked.job_id) from error
        return State.NEW

    async def _write_down(self, asked: Asked) -> Known | None:
        """Store a job as waiting, before it is published."""
        if self._stopping:
            raise ProblemError(_STOPPING, job_id=asked.job_id)
        try:
            await self._client.ready(BROKER_PATIENCE_S)
        except ImageError as error:
            log.warning("http_broker_unreachable", problem=error.message)
            raise self._problem(error, asked.job_id) from error
        known = await self._store.enqueue(self._job(asked))
        if isinstance(known, Conflict):
            raise ProblemError(_CONFLICT, job_id=asked.job_id)
        return known

    def _job(self, asked: Asked) -> Job:
        # The client makes the body; this is how the store knows it again.
        made = request_for(
            asked.request.prompt, asked.options, asked.job_id, asked.deadline_s, None
        )
        now = datetime.now(tz=UTC)
        return Job(
            id=asked.job_id,
            id_source=IdSource.GIVEN,
            body_sha256=hashlib.sha256(made.body).hexdigest(),
            drawing=asked.drawing,
            published=now,
            deadline=now + timedelta(seconds=asked.deadline_s),
            user_id=self._client.user,
        )

    async def _wait(
        self, asked: Asked, gone: "asyncio.Future[None]", leave: Callable[[], bool]
    ) -> GeneratedImage:
        job = self._client.submit(
            asked.request.prompt,
            deadline_s=asked.deadline_s,
            job_id=asked.job_id,
            progress=False,
            **asked.options,
        )
        async with job:
            waiting = asyncio.get_running_loop().create_task(job.result())
            try:
                ends: set[asyncio.Future[Any]] = {waiting, gone}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    return await waiting
                # Leaving calls the job off, unless somebody else waits for it or asked for it, too.
                if leave():
                    await self._remember_cancel(asked.job_id)
                else:
                    job.leave()
                raise ClientGoneError
            finally:
                waiting.cancel()
                await asyncio.wait({waiting})

    async def _undo(self, asked: Asked, known: Known | None, error: ImageError) -> None:
        """Let the store forget a job that certainly never reached the queue."""
        if known is None and error.code in _NEVER_ANSWERS and not error.perhaps_taken:
            with contextlib.suppress(StoreLostError):
                await self._store.withdraw(asked.job_id, fault_of(error))

    @property
    def _stopping(self) -> bool:
        return self._closed or self.service.snapshot().phase in {Phase.DRAINING, Phase.STOPPED}

    def _problem(self, error: ImageError, job_id: str) -> ProblemError:
        if self._stopping and error.code == "unavailable":
            return ProblemError(_STOPPING, job_id=job_id)
        return ProblemError(fault_of(error), job_id=job_id, retry_after_s=self._retry_after_s())

    # ------------------------------------------------------------ look

    async def find(self, job_id: str) -> Record:
        """Return a job. Raises ProblemError if nothing is known of it."""
        record = await self._store.find(job_id)
        if record is None:
            raise ProblemError(_NOT_FOUND, job_id=job_id)
        return record

    async def status(self, job_id: str) -> JobStatus:
        """Return where a job stands. Raises ProblemError if nothing is known of it."""
        record = await self.find(job_id)
        if record.status == "running" and self.service.step(job_id) is None:
            self._attention.attend(job_id)
        return (await self.statuses([record]))[0]

    def attend(self, job_id: str) -> None:
        """Hear the news of a job for a while, wherever it is drawn."""
        self._attention.attend(job_id)

    async def _follow(self, job_id: str) -> None:
        await self._client.follow(self.heard.hear, job_id)
        self.heard.ring(job_id)  # what was told before is not heard any more: look once

    async def _unfollow(self, job_id: str) -> None:
        await self._client.unfollow(self.heard.hear, job_id)
        self.heard.forget(job_id)

    async def statuses(self, records: list[Record]) -> tuple[JobStatus, ...]:
        """Return where jobs stand, as far as the broker and the events tell."""
        queued = any(record.status == "queued" for record in records)
        # Only who waits has a place; the others cost no look at the whole line.
        line = await self._store.line() if queued else NO_LINE
        outlook = self.service.snapshot().outlook
        return tuple(
            job_status(
                record,
                step=self._step(record.id),
                standing=standing(record.id, line, outlook),
            )
            for record in records
        )

    def _step(self, job_id: str) -> int | None:
        here = self.service.step(job_id)
        return self.heard.step(job_id) if here is None else here

    async def recent(self, wanted: Wanted) -> list[Record]:
        """Return some jobs, the newest first."""
        return await self._store.recent(wanted)

    async def picture(self, job_id: str) -> tuple[Record, bytes]:
        """Return a job with its picture.

        Raises:
            ProblemError: there is none, not yet, not any more, or not ever.
        """
        record = await self.find(job_id)
        if record.pruned:
            raise ProblemError(_gone(record), job_id=job_id)
        ended = error_of(record)
        if ended is not None:
            raise ProblemError(fault_from(ended), job_id=job_id)
        if record.facts is None:
            status = await self.status(job_id)
            wait_s = status.estimated_wait or self._retry_after_s()
            fault = Fault(ErrorCode.NOT_READY, f"The job is {record.status}. Ask again later.")
            raise ProblemError(fault, job_id=job_id, retry_after_s=wait_s)
        image = await self._store.picture(job_id)
        if image is None:
            raise ProblemError(_gone(record), job_id=job_id)
        return record, image

    # ------------------------------------------------------------ call off

    async def cancel(self, job_id: str) -> JobStatus:
        """Call a job off; return where it stands now. Raises ProblemError."""
        record = await self.find(job_id)
        if record.status in {"queued", "running"}:
            if not self._may_cancel_any and record.user_id not in {None, self._client.user}:
                raise ProblemError(_NOT_OURS, job_id=job_id)
            await self._remember_cancel(job_id)
            self.heard.ring(job_id)
            try:
                if not self._closed:  # while it drains, too: there are jobs that run
                    await self._client.cancel(job_id)
            except ImageError as error:
                # Nobody heard it; a job that waits has ended in the store all the same.
                if (await self.find(job_id)).status != "cancelled":
                    raise self._problem(error, job_id) from error
        return await self.status(job_id)

    async def _remember_cancel(self, job_id: str) -> None:
        with contextlib.suppress(StoreLostError):
            await self._store.remember_cancel(
                job_id, self._client.user, any_job=self._may_cancel_any
            )

    @property
    def _may_cancel_any(self) -> bool:
        return self._client.user in MAY_CANCEL_ANY

    # ------------------------------------------------------------ wait

    @contextlib.contextmanager
    def place(self, job_id: str) -> Iterator[None]:
        """Take one of the places for who waits or follows.

        Raises:
            ProblemError: all are taken.
        """
        gauge = self.service.metrics.http_waiting
        if self._waiting.total() >= self._waiting_most:
            raise ProblemError(_CROWDED, job_id=job_id, retry_after_s=self._retry_after_s())
        self._waiting[job_id] += 1
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()
            self._waiting[job_id] -= 1
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    @contextlib.contextmanager
    def _call(self, job_id: str) -> Iterator[Callable[[], bool]]:
        """Be one of those who wait for the picture in their request, and give the way out early.

        That tells whether nobody wants the job any more. It counts at once: of two who leave in one
        moment the second would otherwise take the first for somebody who waits.
        """
        waits = True

        def leave() -> bool:
            nonlocal waits
            waits = False
            self._callers[job_id] -= 1
            return job_id in self._with_callers and not self._callers[job_id]

        self._callers[job_id] += 1
        try:
            yield leave
        finally:
            self._callers[job_id] -= waits
            if not self._callers[job_id]:
                del self._callers[job_id]
                self._with_callers.discard(job_id)

    def _retry_after_s(self) -> float:
        """Return when a place in the queue may be free: after one picture, as they go now."""
        outlook = self.service.snapshot().outlook
        picture = outlook.pace.picture_s(*outlook.usual)
        return RETRY_AFTER_S if picture is None else picture


def _facts(image: GeneratedImage) -> ResultFacts:
    fields = asdict(image)
    del fields["data"]
    return ResultFacts(**{**fields, "timings": Timings(**fields["timings"])})


def _gone(record: Record) -> Fault:
    return Fault(
        ErrorCode.GONE,
        f"The job {record.status}, and its result was removed since: results are kept for "
        "IMAGE_GEN_RESULT_TTL_S and within IMAGE_GEN_RESULT_MAX_BYTES. Have it drawn again.",
    )
