"""The remote: asks for pictures over HTTP, and promises what the AMQP client promises."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from consumer.dialogue import Dialogue
from imagegen_client import (
    DeadlineExceeded,
    GeneratedImage,
    ImageError,
    JobStatus,
    NotFound,
    Progress,
    Unavailable,
)
from imagegen_client.answers import UNREADABLE
from imagegen_client.image import image_from_reply
from imagegen_client.request import check_id
from imagegen_client.status import status_from
from schemas.http import DEADLINE_HEADER, IDEMPOTENCY_HEADER

GRACE_S = 5.0
"""After the deadline: time for the service's own word on it to arrive."""
CALL_OFF_TIMEOUT_S = 2.0
AGAIN_FIRST_S, AGAIN_MOST_S = 0.25, 4.0
MISSED_MOST = 10
"""Times in a row that a watch need not find the service: it may be on its way back."""

OnProgress = Callable[[Progress], None]
Answered = TypeVar("Answered")

_MAY_PASS = frozenset({"unavailable", "busy", "not_ready", "request_timeout"})
"""Codes that are of the way or of the moment: no job ends with one of them."""


class RemoteClient:
    """Asks the HTTP face of the service. Errors are those of `imagegen_client`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Take the address of the service, http://host:port, and its token.

        Raises:
            InvalidRequest: the address is none.
        """
        self._dialogue = Dialogue(url, token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._dialogue.close()

    async def generate(
        self, prompt: str, *, deadline_s: float, on_progress: OnProgress, **options: Any
    ) -> GeneratedImage:
        """Have a picture drawn. Cancelling the task that waits calls the job off."""
        wish = _wish(prompt, deadline_s, options)
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                await self._post(wish)
                await self._see_through(wish.job_id, on_progress)
                return await self._picture(wish)
        except TimeoutError:
            error = DeadlineExceeded(f"No answer within {deadline_s:g} s.", job_id=wish.job_id)
            error.perhaps_taken = wish.perhaps_taken
            raise error from None
        except asyncio.CancelledError:
            if wish.perhaps_taken:
                await self._call_off(wish.job_id)
            raise

    async def send(self, prompt: str, *, deadline_s: float, **options: Any) -> str:
        """Have a picture drawn and stored; returns the job's id."""
        wish = _wish(prompt, deadline_s, options)
        try:
            async with asyncio.timeout(deadline_s):
                await self._post(wish)
        except TimeoutError:
            error = Unavailable(f"No answer within {deadline_s:g} s.", job_id=wish.job_id)
            error.perhaps_taken = wish.perhaps_taken
            raise error from None
        return wish.job_id

    async def status(self, job_id: str) -> JobStatus:
        """Return where a job stands."""
        response = await self._dialogue.ask("GET", f"/job/{check_id(job_id)}")
        return _read(response.content)

    def watch(self, job_id: str) -> AsyncGenerator[JobStatus]:
        """Give the state now, and each change until the end, over broken connections too."""
        return self._changes(check_id(job_id), patient=False)

    async def jobs(self, limit: int) -> list[JobStatus]:
        """Return the newest jobs."""
        response = await self._dialogue.ask("GET", "/jobs", params={"limit": limit})
        try:
            return [status_from(told) for told in response.json()["jobs"]]
        except UNREADABLE as error:
            raise self._dialogue.strange(response) from error

    async def cancel(self, job_id: str) -> JobStatus:
        """Call a job off; returns where it stands."""
        response = await self._dialogue.ask("DELETE", f"/job/{check_id(job_id)}")
        return _read(response.content)

    async def _post(self, wish: "_Wish") -> None:
        """Hand it in; again under the same key, while it is not known to have arrived."""
        await _insist(
            lambda: self._posted(wish),
            lambda error: wish.perhaps_taken and _may_pass(error),
        )

    async def _posted(self, wish: "_Wish") -> None:
        earlier, wish.perhaps_taken = wish.perhaps_taken, True
        try:
            await self._dialogue.ask(
                "POST", "/generate/async", json=wish.body, headers=wish.headers
            )
        except ImageError as error:
            wish.perhaps_taken = earlier or error.perhaps_taken
            error.job_id = wish.job_id
            raise

    async def _see_through(self, job_id: str, on_progress: OnProgress) -> None:
        """Return when the job has ended, however that is."""
        async with contextlib.aclosing(self._changes(job_id, patient=True)) as changes:
            async for status in changes:
                if status.status == "running":
                    on_progress(_progress(status))

    async def _changes(self, job_id: str, *, patient: bool) -> AsyncGenerator[JobStatus]:
        """Give the states of a job. Who is not patient is told early that nobody is there."""
        told: JobStatus | None = None
        pauses = _Pauses()
        while True:
            lost: ImageError = Unavailable("The events ended before the job did.")
            try:
                async with contextlib.aclosing(self._events(job_id)) as states:
                    async for status in states:
                        pauses.restart()
                        if status != told:
                            yield status
                        told = status
                        if status.ended:
                            return
            except ImageError as error:
                lost = error
            known = told is not None and pauses.taken < MISSED_MOST
            if not (_may_pass(lost) and (patient or known)):
                raise lost
            await pauses.next()

    async def _events(self, job_id: str) -> AsyncGenerator[JobStatus]:
        """Give what one stream of events tells, as long as it goes."""
        async with contextlib.aclosing(
            self._dialogue.listen(f"/job/{job_id}/events")
        ) as stream:
            async for event in stream:
                yield _read(event.data)

    async def _picture(self, wish: "_Wish") -> GeneratedImage:
        """Fetch the picture of a job that has ended. Raises what it ended with."""
        path = f"/job/{wish.job_id}/image"
        response = await _insist(lambda: self._dialogue.ask("GET", path), _may_pass)
        facts = {**response.headers, "x-imagegen-prompt": wish.prompt}
        try:
            image = image_from_reply(response.content, response.headers["content-type"], facts)
            return replace(image, replayed=facts["x-imagegen-replayed"] == "true")
        except UNREADABLE as error:
            raise self._dialogue.strange(response) from error

    async def _call_off(self, job_id: str) -> None:
        """Cancel, best effort; what was just posted is perhaps not known yet."""
        with contextlib.suppress(ImageError, TimeoutError):
            async with asyncio.timeout(CALL_OFF_TIMEOUT_S):
                await _insist(
                    lambda: self._dialogue.ask("DELETE", f"/job/{job_id}"),
                    lambda error: isinstance(error, NotFound),
                )


@dataclass(slots=True)
class _Wish:
    """A picture that is asked for."""

    job_id: str
    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    perhaps_taken: bool = False
    """The service has it, or may have it."""


def _wish(prompt: str, deadline_s: float, options: dict[str, Any]) -> _Wish:
    given = {name: value for name, value in options.items() if value is not None}
    job_id = str(uuid4())
    headers = {IDEMPOTENCY_HEADER: job_id, DEADLINE_HEADER: f"{deadline_s:.3f}"}
    return _Wish(job_id, prompt, {"prompt": prompt, **given}, headers)


def _progress(status: JobStatus) -> Progress:
    step = status.step or 0
    return Progress(status.job_id, "step" if step else "running", step, status.steps or 0)


def _read(text: str | bytes) -> JobStatus:
    try:
        return status_from(json.loads(text))
    except UNREADABLE as error:
        sentence = "That is no status of a job. Is this imagegen's address?"
        raise Unavailable(sentence, retryable=False) from error


def _may_pass(error: ImageError) -> bool:
    return error.retryable and error.code in _MAY_PASS


async def _insist(
    call: Callable[[], Awaitable[Answered]], worth: Callable[[ImageError], bool]
) -> Answered:
    """Call until it works, as long as an error is worth another try."""
    pauses = _Pauses()
    while True:
        try:
            return await call()
        except ImageError as error:
            if not worth(error):
                raise
        await pauses.next()


class _Pauses:
    """Pauses between tries, each twice as long as the one before."""

    def __init__(self) -> None:
        self.taken = 0

    async def next(self) -> None:
        await asyncio.sleep(min(AGAIN_FIRST_S * 2.0**self.taken, AGAIN_MOST_S))
        self.taken += 1

    def restart(self) -> None:
        self.taken = 0
