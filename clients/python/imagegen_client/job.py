"""The job: one picture under way, its progress and its end; who leaves it early calls it off."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from imagegen_client.answers import Answers
from imagegen_client.errors import Cancelled, DeadlineExceeded, ImageError, Unavailable
from imagegen_client.image import GeneratedImage, Progress
from imagegen_client.insist import insist
from imagegen_client.link import Link
from imagegen_client.pending import Pending
from imagegen_client.request import Request
from imagegen_client.retry import Retry

GRACE_S = 5.0
"""After the deadline: time for the service's own word on it to arrive."""
NEWS_MOST = 256
"""Progress kept for who does not look; the oldest goes first."""

Outcome = GeneratedImage | ImageError


@dataclass(frozen=True, slots=True)
class Desk:
    """What the jobs of one client have in common."""

    link: Link
    answers: Answers
    call_off: Callable[[str], Awaitable[None]]
    jobs: "set[Job]"
    """Those under way."""


class Job:
    """A picture that is being drawn.

    `async with` asks for it, `async for` gives its progress until it ends, `result` its end.
    """

    def __init__(self, desk: Desk, request: Request, retry: Retry, *, followed: bool) -> None:
        self._desk = desk
        self._request = request
        self._retry = retry
        self._followed = followed
        self._progress = _Progress()
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._run: asyncio.Task[None] | None = None
        self._pending: Pending | None = None

    @property
    def id(self) -> str:
        """The job's id: what `ImageClient.cancel` takes, and what asks for the same again."""
        return self._request.job_id

    @property
    def body(self) -> bytes:
        """The body of the request as it is published: JSON, the same however often it is."""
        return self._request.body

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._outcome.done()

    async def __aenter__(self) -> Self:
        self._desk.jobs.add(self)
        self._run = asyncio.get_running_loop().create_task(self._see_through())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._desk.jobs.discard(self)
        unwanted = not self.done and self._perhaps_taken
        self.end(Cancelled("The job was left before its end."))
        if unwanted:
            await self._desk.call_off(self.id)
        if self._run is not None:
            await asyncio.wait({self._run})

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress:
        """Return the next news; the iteration ends when the job does, however that is."""
        self._check_entered()
        return await self._progress.next()

    async def result(self) -> GeneratedImage:
        """Return the picture, or raise the error that it ended with; see `generate`."""
        self._check_entered()
        outcome = await asyncio.shield(self._outcome)
        if isinstance(outcome, ImageError):
            raise outcome
        return outcome

    def _check_entered(self) -> None:
        """Nothing is asked for before the block is entered: who waits then would wait for ever."""
        if self._run is None:
            raise RuntimeError("Enter the job first: async with client.submit(...) as job.")

    def leave(self) -> None:
        """Wait for it no more, and let it go on: leaving the block does not call it off then.

        Who else waits for its result here gets Unavailable. It goes on as long as this client is
        open, by whose reply queue the service sees that somebody waits; what is to outlive the
        client is asked for by `send`. May be called twice.
        """
        self.end(Unavailable("Nobody waits for it here any more. It goes on without."))

    def end(self, outcome: Outcome) -> None:
        """Let it end here with this, unless it has ended; nothing more is asked for.

        What was asked for goes on, and is not called off when the block is left.
        """
        if self._run is not None and not self.done:
            self._run.cancel()
        self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            if isinstance(outcome, ImageError):
                outcome.job_id = self.id
                outcome.perhaps_taken = self._perhaps_taken
            self._outcome.set_result(outcome)
            self._progress.close()

    @property
    def _perhaps_taken(self) -> bool:
        """Whether a copy may be under way that the service has not answered."""
        return self._pending is not None and self._pending.perhaps_taken

    async def _see_through(self) -> None:
        """Have the job end within its deadline and the grace, whatever happens."""
        news, listener = self._desk.link.news, self._progress.add
        try:
            if self._followed:
                await news.follow(self.id, listener)
            async with asyncio.timeout_at(self._request.deadline + GRACE_S):
                self._finish(await insist(self._ask, self._request, self._retry))
        except TimeoutError:
            # Its expiration ends the job; a cancel would be remembered against a retry of the id.
            sentence = f"No answer within {self._request.deadline_s:g} s."
            self._finish(DeadlineExceeded(sentence))
        except Exception as error:  # noqa: BLE001 - a defect of ours is told, never silence
            self._finish(ImageError(f"The client has a defect: {error!r}"))
        finally:
            if self._followed:
                await news.unfollow(self.id, listener)

    async def _ask(self) -> Outcome:
        """Ask once, under a correlation id of its own, and return what comes of it."""
        with self._desk.answers.expected() as (correlation_id, answer):
            pending = self._pending = Pending(self._desk.link, self._request, correlation_id)
            asking = asyncio.get_running_loop().create_task(pending.keep_asking())
            try:
                ends: tuple[asyncio.Future[Any], ...] = (asking, answer)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                return answer.result() if answer.done() else await asking
            except ImageError as error:
                return error
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                if answer.done():
                    self._pending = None  # the service has had the last word on it


class _Progress:
    """News for who iterates, until the end."""

    def __init__(self) -> None:
        self._news: deque[Progress] = deque(maxlen=NEWS_MOST)
        self._change = asyncio.Event()
        self._closed = False

    def add(self, progress: Progress) -> None:
        self._news.append(progress)
        self._change.set()

    def close(self) -> None:
        self._closed = True
        self._change.set()

    async def next(self) -> Progress:
        while not self._news:
            if self._closed:
                raise StopAsyncIteration
            self._change.clear()
            await self._change.wait()
        return self._news.popleft()
