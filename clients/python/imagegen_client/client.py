"""The client: one method that returns a picture or raises an error that says what to do."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from imagegen_client.answers import Answers
from imagegen_client.broadcast import CONNECT_TIMEOUT_S, Broadcast
from imagegen_client.errors import ImageError, InvalidRequest, NotFound, Unavailable
from imagegen_client.image import GeneratedImage, Progress
from imagegen_client.insist import insist
from imagegen_client.job import Desk, Job
from imagegen_client.link import Link
from imagegen_client.mailbox import ReplyQueue
from imagegen_client.news import EVERY_JOB
from imagegen_client.nodes import nodes_in
from imagegen_client.pending import Pending
from imagegen_client.request import CONTROL, Request, cancellation, check_id, request, word
from imagegen_client.retry import ONCE, Retry
from imagegen_client.status import JobStatus, merged, status_from
from imagegen_client.watch import watched

DEFAULT_DEADLINE_S = 300.0
DEFAULT_JOBS = 50
CALL_OFF_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 3.0
"""For the first answer of a consumer. Who does not know a job says nothing."""
GATHER_S = 0.3
"""For the lists of the others, after the first."""
MOST_JOBS = 200
"""Of one list, as the contract has it."""

OnProgress = Callable[[Progress], None]


class ImageClient:
    """Asks imagegen for pictures over RabbitMQ. One instance serves any number of tasks.

    Use it as `async with ImageClient(url) as client`, or call `close` at the end.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        reply_queue: ReplyQueue = "durable",
        tell_user: bool = True,
    ) -> None:
        """Take the broker's URL: `amqp://user:password@host:5672/vhost`.

        Args:
            url: amqp:// or amqps://; names and passwords percent-encoded. For the nodes of a
                cluster several, in a sequence or with commas between: it begins at any of them,
                and goes on to the next when one is lost.
            reply_queue: `durable` keeps the replies of a lost connection for five minutes;
                `exclusive` needs no right to names of our own, and asks again instead.
            tell_user: name the URL's user in every message. The broker verifies it, and then
                only that user may call the job off.
        """
        self._answers = Answers()
        self._link = Link(nodes_in(url), reply_queue, self._answers.take)
        self._user = self._link.user if tell_user else None
        self._broadcast = Broadcast(self._link, self._answers, self._user)
        self._desk = Desk(self._link, self._answers, self._call_off, jobs=set())

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect. Who still waits for a picture gets Unavailable. May be called twice."""
        for job in tuple(self._desk.jobs):
            job.end(Unavailable("The client was closed.", retryable=False))
        await self._link.stop()

    @property
    def user(self) -> str | None:
        """Whom our messages name as their user; None where they name nobody."""
        return self._user

    async def ready(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait until the broker is reached.

        Raises:
            Unavailable: it was not, for `timeout_s` seconds.
        """
        self._link.start()
        await self._link.session(timeout_s)

    @property
    def duplicates(self) -> int:
        """Replies that came a second time and were dropped."""
        return self._answers.duplicates

    @property
    def strays(self) -> int:
        """Replies that nobody waited for, or no longer, and that were dropped."""
        return self._answers.strays

    def submit(
        self,
        prompt: str,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        job_id: str | None = None,
        retry: Retry | None = None,
        progress: bool = True,
        **options: str | float | None,
    ) -> Job:
        """Have a picture drawn, and watch it.

            async with client.submit("a cat") as job:
                async for progress in job:
                    print(progress.step, progress.steps)
                image = await job.result()

        Nothing is asked before the block. Leaving it before the job's end calls the job off.
        Arguments and errors are those of `generate`; without `progress` there is no news.
        """
        self._link.start()
        asked = request(prompt, options, job_id, deadline_s, self._user)
        return Job(self._desk, asked, retry or ONCE, followed=progress)

    async def generate(
        self,
        prompt: str,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        job_id: str | None = None,
        retry: Retry | None = None,
        on_progress: OnProgress | None = None,
        **options: str | float | None,
    ) -> GeneratedImage:
        """Have a picture drawn. Cancelling the task that waits calls the job off.

        Args:
            prompt: what to draw, 1 to 4,000 characters.
            deadline_s: seconds after which nobody wants it any more, over all attempts.
            job_id: the job's name and idempotency key; reuse it to ask for the same again.
            retry: what to ask again for, under the same id; once only where there is none.
            on_progress: called with news of the job; some may be missing. What it raises ends
                the wait and calls the job off.
            options: `width`, `height`, `seed`, `output_format`, `num_inference_steps`,
                `guidance_scale`, as the contract has them; None is left to the service.

        Raises:
            Busy: the queue is full.
            Unavailable: the broker is away or has no queue, or the client was closed.
            DeadlineExceeded: it took longer than `deadline_s`.
            InvalidRequest: the request is at fault; `details` says where.
            Cancelled: somebody called it off.
            GenerationFailed: the service could not draw it.
        """
        followed = on_progress is not None
        async with self.submit(
            prompt,
            deadline_s=deadline_s,
            job_id=job_id,
            retry=retry,
            progress=followed,
            **options,
        ) as job:
            if on_progress is not None:
                async for progress in job:
                    on_progress(progress)
            return await job.result()

    async def send(
        self,
        prompt: str,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        job_id: str | None = None,
        retry: Retry | None = None,
        **options: str | float | None,
    ) -> str:
        """Have a picture drawn and stored, and do not wait for it. Returns the job's id.

        The broker has it then, on disk. Nobody is answered, and nothing calls it off but `cancel`
        and its deadline. Arguments are those of `generate`; `deadline_s` holds for the sending,
        too.

        Raises:
            Busy: the queue is full; it is not in it.
            Unavailable: the broker is away, has no queue or does not let us, or its word did not
                come within `deadline_s`. `perhaps_taken` tells whether it may be drawn all the
                same; to send it again under the same `job_id` draws nothing twice.
            InvalidRequest: the job id is none.
        """
        self._link.start()
        asked = request(prompt, options, job_id, deadline_s, self._user)
        outcome = await insist(lambda: self._send(asked), asked, retry or ONCE)
        if isinstance(outcome, ImageError):
            outcome.job_id = asked.job_id
            raise outcome
        return asked.job_id

    async def _send(self, asked: Request) -> ImageError | None:
        """Send once; returns None where the broker has it."""
        pending = Pending(self._link, asked, correlation_id=None)
        try:
            async with asyncio.timeout_at(asked.deadline):
                await pending.confirmed()
        except TimeoutError:
            error: ImageError = Unavailable(self._why_not(pending, asked))
        except ImageError as refused:
            error = refused
        else:
            return None
        error.perhaps_taken = pending.perhaps_taken
        return error

    def _why_not(self, pending: Pending, asked: Request) -> str:
        """Return what a request waited for in vain."""
        within = f"within {asked.deadline_s:g} s"
        if pending.perhaps_taken:
            return f"The broker's word on it did not come {within}."
        if self._link.up is not None:
            return f"The broker took nothing {within}."
        return f"The broker could not be reached {within}: {self._link.problem}"

    async def follow(self, listener: OnProgress, job_id: str | None = EVERY_JOB) -> None:
        """Have the news of all jobs, or of one, handed over, over reconnects too; best effort.

        The listener is called in the event loop and does not block; what it raises is logged. A
        user who may not read the exchange of events hears nothing.
        """
        self._link.start()
        await self._link.news.follow(job_id, listener)

    async def unfollow(self, listener: OnProgress, job_id: str | None = EVERY_JOB) -> None:
        """Undo `follow`. Raises ValueError where it was not called before."""
        await self._link.news.unfollow(job_id, listener)

    async def cancel(self, job_id: str) -> None:
        """Call a job off: it stops at its next step, or is refused when its turn comes.

        Raises:
            InvalidRequest: the id is none.
            Unavailable: the broker is away, or takes no word from us.
        """
        self._link.start()
        await self._broadcast.tell(cancellation(check_id(job_id)))

    async def status(self, job_id: str, timeout_s: float = ANSWER_TIMEOUT_S) -> JobStatus:
        """Ask where a job stands; the first consumer that knows it is believed.

        A job that was sent over AMQP is known from when a consumer takes it.

        Raises:
            NotFound: nobody said for `timeout_s` seconds that they know it.
            InvalidRequest: the id is none.
            Unavailable: the broker is away, or was lost meanwhile.
        """
        self._link.start()
        question = {"op": "status", "job_id": check_id(job_id)}
        answers = await self._broadcast.ask(question, status_from, timeout_s)
        if not answers:
            raise NotFound(
                f"No service knows the job {job_id}: it may be in the queue yet, was never sent, "
                "or is forgotten.",
                job_id=job_id,
            )
        return answers[0]

    async def jobs(
        self, limit: int = DEFAULT_JOBS, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> list[JobStatus]:
        """Ask for the newest jobs of all consumers, at most `limit` (1 to 200); newest first.

        Raises:
            InvalidRequest: `limit` is out of range.
            Unavailable: nobody answered for `timeout_s` seconds, or the broker is away.
        """
        if not 1 <= limit <= MOST_JOBS:
            raise InvalidRequest(f"A list has 1 to {MOST_JOBS} jobs.")
        self._link.start()
        question = {"op": "jobs", "limit": limit}
        lists = await self._broadcast.ask(question, _read_list, timeout_s, GATHER_S)
        if not lists:
            raise Unavailable(f"No service answered within {timeout_s:g} s. Is one running?")
        return merged(lists, limit)

    def watch(self, job_id: str) -> AsyncGenerator[JobStatus]:
        """Give the state of a job now, and each change until its end; what comes between is lost.

        Raises:
            NotFound, InvalidRequest, Unavailable: as `status`.
        """
        self._link.start()
        return watched(job_id, self._link.news, lambda: self.status(job_id, ANSWER_TIMEOUT_S))

    async def _call_off(self, job_id: str) -> None:
        """Cancel as far as connected: nobody is held up for a job whose deadline ends it anyway."""
        session = self._link.up
        if session is not None:
            message = word(cancellation(job_id), self._user)
            await session.broadcast(CONTROL, message, CALL_OFF_TIMEOUT_S)


def _read_list(body: dict[str, Any]) -> list[JobStatus]:
    return [status_from(told) for told in body["jobs"]]
