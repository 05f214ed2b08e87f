"""The client: one method that returns a picture or raises an error that says what to do."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from uuid import uuid4

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from imagegen_client.errors import DeadlineExceeded, Unavailable, error_from_reply
from imagegen_client.image import GeneratedImage, Progress, image_from_reply
from imagegen_client.link import Link

EXCHANGE = "imagegen"
REQUESTS = "imagegen.requests"
CONTROL = "imagegen.control"
REQUEST_TYPE = "imagegen.request.v1"
RESULT_TYPE = "imagegen.result.v1"

DEFAULT_DEADLINE_S = 300.0
CONNECT_TIMEOUT_S = 10.0
GRACE_S = 5.0
"""After the deadline: time for the service's own word on it to arrive."""

OnProgress = Callable[[Progress], None]


class ImageClient:
    """Asks imagegen for pictures over RabbitMQ. One instance serves any number of tasks.

    Use it as `async with ImageClient(url) as client`, or call `close` at the end.
    """

    def __init__(self, url: str) -> None:
        """Take the broker's URL: `amqp://user:password@host:5672/vhost`."""
        self._link = Link(url, self._take_reply, self._take_event)
        self._waiting: dict[str, asyncio.Future[GeneratedImage]] = {}
        self._followed: dict[str, OnProgress] = {}

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
        for future in self._waiting.values():
            future.cancel()
        await self._link.stop()

    async def generate(
        self,
        prompt: str,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        job_id: str | None = None,
        on_progress: OnProgress | None = None,
        **options: str | float | None,
    ) -> GeneratedImage:
        """Have a picture drawn.

        Args:
            prompt: what to draw, 1 to 4,000 characters.
            deadline_s: seconds after which nobody wants it any more.
            job_id: the job's name and idempotency key; reuse it to ask for the same again.
            on_progress: called with news of the job; some may be missing.
            options: `width`, `height`, `seed`, `output_format`, `num_inference_steps`,
                `guidance_scale`, as the contract has them; None is left to the service.

        Raises:
            Busy: the queue is full.
            Unavailable: the broker is away or has no queue.
            DeadlineExceeded: it took longer than `deadline_s`.
            InvalidRequest: the request is at fault; `details` says where.
            GenerationFailed: the service could not draw it.
        """
        self._link.start()
        job_id = job_id or str(uuid4())
        correlation_id = str(uuid4())
        future: asyncio.Future[GeneratedImage] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = future
        if on_progress is not None:
            self._followed[job_id] = on_progress
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                await self._link.wait_up(min(CONNECT_TIMEOUT_S, deadline_s))
                if on_progress is not None:
                    await self._link.follow(f"job.*.{job_id}")
                message = self._request(prompt, options, job_id, correlation_id, deadline_s)
                await self._link.publish(EXCHANGE, REQUESTS, message)
                return await future
        except TimeoutError:
            # Its expiration ends the job; a cancel would be remembered against a retry of the id.
            raise DeadlineExceeded(
                f"No answer within {deadline_s:g} s.", job_id=job_id
            ) from None
        except asyncio.CancelledError:
            if not _task_is_cancelled():
                raise Unavailable("The client was closed.", job_id=job_id) from None
            await asyncio.shield(self._call_off(job_id))
            raise
        finally:
            del self._waiting[correlation_id]
            if self._followed.pop(job_id, None) is not None:
                await self._link.unfollow(f"job.*.{job_id}")

    async def cancel(self, job_id: str) -> None:
        """Call a job off: it stops at its next step, or is refused when its turn comes."""
        self._link.start()
        await self._link.wait_up(CONNECT_TIMEOUT_S)
        await self._call_off(job_id)

    async def _call_off(self, job_id: str) -> None:
        """Cancel as far as connected: nobody is held up for a job whose deadline ends it anyway."""
        message = aio_pika.Message(
            json.dumps({"op": "cancel", "job_id": job_id}).encode(),
            content_type="application/json",
            type="imagegen.control.v1",
            message_id=str(uuid4()),
        )
        await self._link.broadcast(CONTROL, message)

    def _request(
        self,
        prompt: str,
        options: dict[str, str | float | None],
        job_id: str,
        correlation_id: str,
        deadline_s: float,
    ) -> aio_pika.Message:
        given = {name: value for name, value in options.items() if value is not None}
        return aio_pika.Message(
            json.dumps({"prompt": prompt, **given}).encode(),
            content_type="application/json",
            type=REQUEST_TYPE,
            message_id=job_id,
            correlation_id=correlation_id,
            reply_to=self._link.reply_queue,
            expiration=deadline_s,
            timestamp=datetime.now(tz=UTC),
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=4,
            headers={"x-imagegen-accept": "image/png"},
        )

    def _take_reply(self, message: AbstractIncomingMessage) -> None:
        """Hand a reply to whom it belongs; one that nobody waits for is a duplicate."""
        future = self._waiting.get(message.correlation_id or "")
        if future is None or future.done():
            return
        try:
            if message.type == RESULT_TYPE:
                future.set_result(
                    image_from_reply(message.body, message.content_type, message.headers)
                )
            else:
                future.set_exception(error_from_reply(json.loads(message.body)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            future.set_exception(
                error_from_reply({"error": {"message": f"The reply cannot be read: {error!r}"}})
            )

    def _take_event(self, message: AbstractIncomingMessage) -> None:
        try:
            event = json.loads(message.body)
            progress = Progress(
                event["job_id"], event["state"], int(event["step"]), int(event["steps"])
            )
        except (ValueError, KeyError, TypeError):
            return
        follower = self._followed.get(progress.job_id)
        if follower is not None:
            follower(progress)


def _task_is_cancelled() -> bool:
    """Whether it is this task that was cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
