"""The impostor: stands in the service's place at the broker, and answers as a test likes."""

import asyncio
import contextlib
import json

import aio_pika

from schemas import ERRORS
from tests.test_contract import RESULT


class Impostor:
    """Answers requests in the service's place, and hears what is broadcast to it."""

    def __init__(self, channel, requests, control):
        self._channel = channel
        self._queue = requests
        self._tag = None
        self._requests = asyncio.Queue()
        self._control = control

    async def start(self):
        """Take requests."""
        self._tag = await self._queue.consume(self._requests.put, no_ack=True)
        return self

    async def stop(self):
        """Leave them in the queue."""
        await self._queue.cancel(self._tag)

    async def request(self):
        """The next request."""
        async with asyncio.timeout(30):
            return await self._requests.get()

    async def called_off(self):
        """The next message to every consumer."""
        async with asyncio.timeout(30):
            return await self._control.get()

    def nothing_more(self):
        return self._requests.empty()

    async def draw(self, request, seed=1, **changes):
        body = json.dumps({**json.loads(RESULT), "seed": seed}).encode()
        return await self.answer(request, body, "imagegen.result.v1", **changes)

    async def fail(self, request, code):
        error = {"code": code, "message": "No.", "retryable": ERRORS[code].retryable}
        body = json.dumps({"success": False, "error": error}).encode()
        return await self.answer(request, body, "imagegen.error.v1")

    async def answer(self, request, body, message_type, **changes):
        """Answer with any bytes; `changes` are properties that are to be others."""
        properties = {
            "correlation_id": request.correlation_id,
            "type": message_type,
            "message_id": "reply",
            "delivery_mode": 2,
        }
        message = aio_pika.Message(body, **{**properties, **changes})
        return await self._channel.default_exchange.publish(message, request.reply_to)

    async def say(self, question, job_id, state, **more):
        """Answer where a job stands."""
        body = json.dumps(_status(job_id, state, **more)).encode()
        return await self.answer(question, body, "imagegen.status.v1")

    async def say_list(self, question, jobs):
        """Answer which jobs there are: (id, state, second) of each."""
        told = [_status(job_id, state, second) for job_id, state, second in jobs]
        body = json.dumps({"jobs": told, "next": None}).encode()
        return await self.answer(question, body, "imagegen.jobs.v1")

    async def tell(self, job_id, state, step=0):
        events = await self._channel.get_exchange("imagegen.events", ensure=False)
        body = json.dumps({"job_id": job_id, "state": state, "step": step, "steps": 8})
        await events.publish(aio_pika.Message(body.encode()), f"job.{state}.{job_id}")


def _status(job_id, state, second=0, **more):
    queued_at = f"2026-11-22T10:00:{second:02}.000Z"
    return {"job_id": job_id, "status": state, "queued_at": queued_at, **more}


@contextlib.asynccontextmanager
async def in_the_services_place(broker):
    """An impostor that takes the requests; the queues are empty before and after."""
    broker.purge()
    connection = await aio_pika.connect(broker.url("imagegen-consumer"))
    async with connection:
        channel = await connection.channel()
        heard = asyncio.Queue()
        control = await channel.declare_queue("", exclusive=True)
        await control.bind("imagegen.control")
        await control.consume(heard.put, no_ack=True)
        requests = await channel.get_queue("imagegen.requests", ensure=False)
        yield await Impostor(channel, requests, heard).start()
    broker.purge()


async def fill(channel):
    """Put as many requests into the queue as it takes."""
    exchange = await channel.get_exchange("imagegen", ensure=False)
    with contextlib.suppress(aio_pika.exceptions.DeliveryError):
        for number in range(21):
            message = aio_pika.Message(b"{}", message_id=str(number))
            await exchange.publish(message, "imagegen.requests")
