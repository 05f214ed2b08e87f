"""The messages that a client sends: a request for a picture, and a word to every consumer."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika import DeliveryMode

from imagegen_client.errors import InvalidRequest

EXCHANGE = "imagegen"
REQUESTS = "imagegen.requests"
CONTROL = "imagegen.control"
REQUEST_TYPE = "imagegen.request.v1"
CONTROL_TYPE = "imagegen.control.v1"
JOB_ID_PATTERN = r"[A-Za-z0-9_-]{1,128}"

Options = Mapping[str, str | float | None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: the same words however often it is published."""

    job_id: str
    body: bytes
    deadline_s: float
    """Seconds that were given to it."""
    deadline: float
    """When they end, by the event loop's clock."""
    user: str | None
    """The broker refuses a message that names another user than its connection's."""

    @property
    def remaining_s(self) -> float:
        """Seconds until nobody wants it any more; never below 0."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def message(self, reply_to: str | None, correlation_id: str | None) -> aio_pika.Message:
        """Return the message that asks for it, with the patience that is left.

        Without `reply_to` it is drawn and stored, and nobody is answered.
        """
        return aio_pika.Message(
            self.body,
            content_type="application/json",
            type=REQUEST_TYPE,
            message_id=self.job_id,
            correlation_id=correlation_id,
            reply_to=reply_to,
            expiration=self.remaining_s,
            timestamp=datetime.now(tz=UTC),
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=4,
            user_id=self.user,
            headers={} if reply_to is None else {"x-imagegen-accept": "image/png"},
        )


def request(
    prompt: str, options: Options, job_id: str | None, deadline_s: float, user: str | None
) -> Request:
    """Return the request for a picture; options that are None are left to the service.

    Raises:
        InvalidRequest: the job id is none; no message can carry it.
    """
    job_id = check_id(job_id or str(uuid4()))
    given = {name: value for name, value in options.items() if value is not None}
    body = json.dumps({"prompt": prompt, **given}).encode()
    deadline = asyncio.get_running_loop().time() + deadline_s
    return Request(job_id, body, deadline_s, deadline, user)


def check_id(job_id: str) -> str:
    """Return the id. Raises InvalidRequest where no job can have it."""
    if not re.fullmatch(JOB_ID_PATTERN, job_id):
        raise InvalidRequest("A job id has 1 to 128 letters, digits, _ and -.", job_id=job_id)
    return job_id


def cancellation(job_id: str) -> dict[str, str]:
    """Return the words that call a job off."""
    return {"op": "cancel", "job_id": job_id}


def word(words: Mapping[str, Any], user: str | None) -> aio_pika.Message:
    """Return the message that says something to every consumer."""
    return aio_pika.Message(
        json.dumps(words).encode(),
        content_type="application/json",
        type=CONTROL_TYPE,
        message_id=str(uuid4()),
        user_id=user,
    )
