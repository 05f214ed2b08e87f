"""The load: small jobs at a steady rate, asked on the plain wire and through the client library beside it."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
import numpy as np
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.commands import Basic
from PIL import Image

from bench.chaos.ledger import PICTURE, Answer, Asked, Face, Ledger, Word
from bench.chaos.pipelines import gradient, noise
from imagegen_client import (
    Busy,
    DeadlineExceeded,
    GeneratedImage,
    ImageClient,
    ImageError,
    Unavailable,
)

LINK_ERRORS = (
    aio_pika.exceptions.AMQPError,
    OSError,
    ChannelInvalidStateError,
    RuntimeError,
    TimeoutError,
)
CONFIRM_S = 8.0
REDIAL_S = 0.2
LATE_S = 5.0
FOR_EVER_S = 3600.0
"""After a deadline: time for the service's own word on it."""
SIDE = 256
SEEDS = 1 << 24
MOST_WAITING = {Face.WIRE: 10, Face.LIBRARY: 4}
"""Requests open at once; together with two jobs in hand far below the queue's bound of 20."""
PAUSE_S = {Face.WIRE: 0.22, Face.LIBRARY: 0.5}
"""Mean pause between two requests."""
DRAW_S = (0.02, 0.3)


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for."""

    id: str
    seed: int
    words: str
    width: int = SIDE
    height: int = SIDE

    @property
    def prompt(self) -> str:
        return f"job={self.id} {self.words}"

    @property
    def body(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "width": self.width,
            "height": self.height,
            "seed": self.seed,
        }

    def fault_of(self, data: bytes, seed: int) -> str:
        """Return what is wrong with a picture for this job; empty if nothing is."""
        if seed != self.seed:
            return f"seed {seed}, not {self.seed}"
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image)
        paint = noise if "noise" in self.words else gradient
        if not np.array_equal(pixels, paint(self.width, self.height, self.seed)):
            return "another picture than the seed's"
        return ""


class Wire:
    """Plain AMQP with nothing of ours: publishes with confirm, and books every reply."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        self._jobs: dict[str, Job] = {}
        self._channel: AbstractChannel | None = None
        self._up = asyncio.Event()
        self.reply_to = f"imagegen.client.chaos-{uuid4()}"

    async def run(self) -> None:
        """Stay connected, for ever."""
        while True:
            with contextlib.suppress(*LINK_ERRORS):
                await self._live()
            self._up.clear()
            await asyncio.sleep(REDIAL_S)

    async def channel(self) -> AbstractChannel:
        """Return a channel with confirms; waits for the link."""
        while True:
            await self._up.wait()
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            await asyncio.sleep(REDIAL_S)

    async def ask(
        self,
        job: Job,
        patience_s: float,
        wants: tuple[str, ...] = (PICTURE,),
        **properties: Any,
    ) -> Word:
        """Publish a request once; a `body` among the properties replaces the job's."""
        body = properties.pop("body", None)
        if body is None:
            body = json.dumps(job.body).encode()
        given = {
            "message_id": job.id,
            "correlation_id": job.id,
            "reply_to": self.reply_to,
            "content_type": "application/json",
            "delivery_mode": 2,
            "priority": 4,
            "expiration": patience_s,
            **properties,
        }
        request_id = str(given["correlation_id"])
        deadline = time.monotonic() + patience_s + LATE_S
        self._jobs[request_id] = job
        self._ledger.ask(Asked(request_id, job.id, Face.WIRE, deadline, wants))
        word = await self._publish(aio_pika.Message(body, **given))
        self._ledger.tell(request_id, word)
        return word

    async def leave(self) -> None:
        """Remove the reply queue, best effort."""
        with contextlib.suppress(*LINK_ERRORS):
            async with asyncio.timeout(CONFIRM_S):
                channel = await self.channel()
                await channel.queue_delete(self.reply_to)

    async def _publish(self, message: aio_pika.Message) -> Word:
        try:
            async with asyncio.timeout(CONFIRM_S):
                channel = await self.channel()
        except LINK_ERRORS:
            return Word.REFUSED  # it was never sent
        try:
            async with asyncio.timeout(CONFIRM_S):
                exchange = await channel.get_exchange("imagegen", ensure=False)
                answer = await exchange.publish(message, "imagegen.requests", mandatory=True)
        except aio_pika.exceptions.DeliveryError:
            return Word.REFUSED
        except LINK_ERRORS:
            return Word.ATTEMPTED
        return Word.CONFIRMED if isinstance(answer, Basic.Ack) else Word.REFUSED

    async def _live(self) -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection = await aio_pika.connect(
            self._url, timeout=5, client_properties={"connection_name": "chaos wire"}
        )
        async with connection:
            self._channel = await connection.channel()
            replies = await connection.channel(publisher_confirms=False)
            for end in (connection, self._channel, replies):
                end.close_callbacks.add(lambda *_: lost.done() or lost.set_result(None))
            queue = await replies.declare_queue(
                self.reply_to,
                durable=True,
                arguments={"x-queue-type": "classic", "x-expires": 300_000},
            )
            await queue.consume(self.take)
            self._up.set()
            await lost

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Book a reply; also those of queues beside the own one."""
        request_id, reply_id = str(message.correlation_id), str(message.message_id)
        self._ledger.reply_seen(request_id, reply_id)
        self._ledger.answer(read(message, self._jobs.get(request_id), request_id, reply_id))
        await message.ack()


def read(
    message: AbstractIncomingMessage, job: Job | None, request_id: str, reply_id: str
) -> Answer:
    """Return a reply as an answer; what cannot be read is told as its fault."""
    try:
        fields = json.loads(message.body)
        if not fields["success"]:
            code = fields["error"]["code"]
            return Answer(request_id, reply_id, fields["job_id"], code, code)
        data = base64.b64decode(fields["image_base64"])
        hash_ = hashlib.sha256(data).hexdigest()
        fault = job.fault_of(data, fields["seed"]) if job else ""
        if hash_ != fields["sha256"]:
            fault = "bytes that do not have the hash told"
        return Answer(
            request_id, reply_id, fields["job_id"], PICTURE, hash_, fault, fields["replayed"]
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        return Answer(request_id, reply_id, "", "unreadable", "", f"unreadable: {error!r}")


class Library:
    """The client library, as a chat backend uses it."""

    def __init__(self, client: ImageClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger

    async def ask(
        self, job: Job, patience_s: float, wants: tuple[str, ...] = (PICTURE,)
    ) -> None:
        """Have a picture drawn, and book how the call ended."""
        began = time.monotonic()
        deadline = began + patience_s + LATE_S + LATE_S
        self._ledger.ask(Asked(job.id, job.id, Face.LIBRARY, deadline, wants))
        try:
            picture = await self._client.generate(
                job.prompt,
                deadline_s=patience_s,
                job_id=job.id,
                width=job.width,
                height=job.height,
                seed=job.seed,
            )
        except (Busy, Unavailable):
            self._ledger.tell(job.id, Word.REFUSED)
        except ImageError as error:
            self._ledger.tell(job.id, Word.CONFIRMED)
            silent = isinstance(error, DeadlineExceeded) and (
                time.monotonic() - began >= patience_s + LATE_S - 1
            )
            if not silent:
                answer = Answer(job.id, str(uuid4()), job.id, error.code, error.code)
                self._ledger.answer(answer)
        else:
            self._ledger.tell(job.id, Word.CONFIRMED)
            self._ledger.answer(_answer(job, picture))


def _answer(job: Job, picture: GeneratedImage) -> Answer:
    return Answer(
        job.id,
        str(uuid4()),
        picture.job_id,
        PICTURE,
        picture.sha256,
        job.fault_of(picture.data, picture.seed),
        picture.replayed,
    )


@dataclass(slots=True)
class Load:
    """Both askers at work, with books in common."""

    ledger: Ledger
    wire: Wire
    library: Library
    dice: random.Random
    name: str
    patience_s: float
    hurry: float = 1.0
    """How much faster than usual it asks, and the GPU draws."""
    resting: bool = False
    """Nothing new is asked for the moment."""
    asking: asyncio.Event = field(default_factory=asyncio.Event)
    _count: int = 0

    def job(self, words: str = "", **size: int) -> Job:
        """Return a new job; it takes 20 to 300 ms unless the words say otherwise."""
        self._count += 1
        if "draw=" not in words:
            words = f"draw={self.dice.uniform(*DRAW_S) / self.hurry:.3f} {words}"
        seed = self.dice.randrange(SEEDS)
        return Job(f"{self.name}-{self._count}-{seed:06x}", seed, words.strip(), **size)

    async def pictures(self, more: int, patience_s: float) -> bool:
        """Return once `more` further requests have their picture; False if it takes too long."""
        enough = self.ledger.pictures() + more
        return await until(lambda: self.ledger.pictures() >= enough, patience_s)

    async def answered(self, request_id: str, patience_s: float) -> bool:
        """Return once a request has an answer; False if it takes too long."""
        return await until(lambda: bool(self.ledger.answers.get(request_id)), patience_s)

    async def all_answered(self) -> None:
        """Return once every confirmed request has its answer or its deadline behind it."""
        await until(lambda: not self.ledger.waiting(time.monotonic()), FOR_EVER_S)

    async def keep_asking(self, face: Face) -> None:
        """Ask at a steady rate while `asking` is set, and wait for what is open at the end."""
        open_: set[asyncio.Task[Any]] = set()
        ask = self.wire.ask if face is Face.WIRE else self.library.ask
        loop = asyncio.get_running_loop()
        while self.asking.is_set():
            await asyncio.sleep(self.dice.expovariate(self.hurry / PAUSE_S[face]))
            if self._may_ask(face, len(open_)):
                task = loop.create_task(ask(self.job(), self.patience_s))
                open_.add(task)
                task.add_done_callback(open_.discard)
        if open_:
            await asyncio.wait(open_)

    def _may_ask(self, face: Face, calls: int) -> bool:
        if self.resting or not self.asking.is_set():
            return False
        return self._open(face) + calls < MOST_WAITING[face]

    def _open(self, face: Face) -> int:
        """Count what the wire waits for; a call of the library is open as long as its task."""
        if face is Face.LIBRARY:
            return 0
        waiting = self.ledger.waiting(time.monotonic())
        return sum(asked.face is face for asked in waiting)


@contextlib.asynccontextmanager
async def loaded(
    name: str, dice: random.Random, patience_s: float, wire_url: str, library_url: str
) -> AsyncIterator[Load]:
    """Have both askers at work until the block ends; what is open then is waited for by it."""
    ledger = Ledger()
    wire = Wire(wire_url, ledger)
    async with ImageClient(library_url) as client, asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(wire.run())
        load = Load(ledger, wire, Library(client, ledger), dice, name, patience_s)
        load.asking.set()
        askers = [tasks.create_task(load.keep_asking(face)) for face in Face]
        try:
            yield load
        finally:
            load.asking.clear()
            await asyncio.wait(askers)
            await wire.leave()
            keeper.cancel()


async def until(true: Callable[[], bool], patience_s: float, every_s: float = 0.02) -> bool:
    """Return once it is true; False if it takes too long."""
    end = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(every_s)
    return True
