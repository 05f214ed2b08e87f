"""The answers: hands each reply to whom it belongs, and counts what belongs to nobody."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar
from uuid import uuid4

from aio_pika.abc import AbstractIncomingMessage

from imagegen_client.errors import ImageError, error_from_reply
from imagegen_client.image import GeneratedImage, image_from_reply

RESULT_TYPE = "imagegen.result.v1"
OF_QUESTIONS = frozenset({"imagegen.status.v1", "imagegen.jobs.v1"})
"""Types of what every consumer may answer: a second one is no duplicate, and comes late or never."""
REMEMBERED = 1000
"""Correlation ids of answers that came, so that a second answer is known for what it is."""

Answer = asyncio.Future[GeneratedImage | ImageError]
Said = TypeVar("Said")

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What a body may raise that is not what it should be."""


class Gathering(Generic[Said]):
    """The answers to a question that several may answer."""

    def __init__(self, read: Callable[[Any], Said]) -> None:
        self._read = read
        self.said: list[Said] = []
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once there is one."""

    def add(self, body: bytes) -> None:
        """Take an answer, or pass over what is none."""
        with contextlib.suppress(*UNREADABLE):
            self.said.append(self._read(json.loads(body)))
            if not self.first.done():
                self.first.set_result(None)


class Answers:
    """Who waits for which reply, by correlation id."""

    def __init__(self) -> None:
        self._expected: dict[str, Answer] = {}
        self._gatherings: dict[str, Gathering[Any]] = {}
        self._came: dict[str, None] = {}
        self.duplicates = 0
        """Replies to what was answered before."""
        self.strays = 0
        """Replies to what nobody here asks, or asks any more."""

    @contextlib.contextmanager
    def expected(self) -> Iterator[tuple[str, Answer]]:
        """Lend a new correlation id, and the answer that will come under it."""
        correlation_id = str(uuid4())
        answer: Answer = asyncio.get_running_loop().create_future()
        self._expected[correlation_id] = answer
        try:
            yield correlation_id, answer
        finally:
            del self._expected[correlation_id]
            answer.cancel()

    @contextlib.contextmanager
    def gathering(self, read: Callable[[Any], Said]) -> Iterator[tuple[str, Gathering[Said]]]:
        """Lend a new correlation id, and all answers that come under it."""
        correlation_id = str(uuid4())
        gathering = self._gatherings[correlation_id] = Gathering(read)
        try:
            yield correlation_id, gathering
        finally:
            del self._gatherings[correlation_id]

    def take(self, message: AbstractIncomingMessage) -> None:
        """Hand a reply over, or drop it. Never raises: any program may write to our queue."""
        correlation_id = message.correlation_id or ""
        if (gathering := self._gatherings.get(correlation_id)) is not None:
            gathering.add(message.body)
        elif message.type in OF_QUESTIONS:
            pass
        elif correlation_id in self._came:
            self.duplicates += 1
        elif (answer := self._expected.get(correlation_id)) is None:
            self.strays += 1
        else:
            answer.set_result(_read(message))
            self._came[correlation_id] = None
            if len(self._came) > REMEMBERED:
                del self._came[next(iter(self._came))]


def _read(message: AbstractIncomingMessage) -> GeneratedImage | ImageError:
    """Return what a reply tells; an error where it cannot be read."""
    try:
        if message.type == RESULT_TYPE:
            return image_from_reply(message.body, message.content_type, message.headers)
        return error_from_reply(json.loads(message.body))
    except UNREADABLE as error:
        return error_from_reply({"error": {"message": f"The reply cannot be read: {error!r}"}})
