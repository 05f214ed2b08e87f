"""The provision: looks for the topology on a live broker, and declares what is missing of it."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Literal

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from consumer import topology
from consumer.errors import StartRefusedError
from consumer.management import API_ERRORS, ManagementApi, ManagementError, quoted
from consumer.topology import BINDINGS, EXCHANGES, Exchange, Queue

Found = Literal["there", "missing", "unknown"]

Declare = Callable[[AbstractChannel, Found], Awaitable[str]]
"""Declares a thing and returns what was done, as the end of a sentence."""


class Provision:
    """Compares a broker with the table, by the rules of `IMAGE_GEN_TOPOLOGY`."""

    def __init__(
        self,
        mode: Literal["auto", "check", "declare"],
        max_queue_size: int,
        vhost: str,
        management_url: str | None,
    ) -> None:
        self._mode = mode
        self._queues = topology.queues(max_queue_size)
        self._vhost = vhost
        self._management_url = management_url
        self.bound: int | None = None
        """Of the live queue of requests, as the management API told last; None where it did not."""

    async def apply(self, connection: AbstractConnection) -> list[str]:
        """Bring the broker as near to the table as the mode allows; return what differs still.

        Raises:
            StartRefusedError: in `check` on any difference, in `declare` where a thing there is
                another than the table's.
        """
        sentences: list[str] = []
        for exchange in EXCHANGES:
            sentences += await self._exchange(connection, exchange)
        for queue in self._queues:
            sentences += await self._queue(connection, queue)
        if self._management_url is not None:
            sentences += await self._compare(self._management_url)
        if sentences and self._mode == "check":
            raise StartRefusedError(
                *sentences,
                "Load rabbitmq/definitions.json into the broker, or run `imagegen topology apply`, "
                "or set IMAGE_GEN_TOPOLOGY=auto.",
            )
        return sentences

    # ------------------------------------------------------------ over AMQP

    async def _exchange(self, connection: AbstractConnection, exchange: Exchange) -> list[str]:
        async def look(channel: AbstractChannel) -> None:
            await channel.declare_exchange(exchange.name, passive=True)

        async def declare(channel: AbstractChannel, _found: Found) -> str:
            await channel.declare_exchange(exchange.name, exchange.type, durable=True)
            return "was declared"

        return await self._ensure(connection, f"The exchange {exchange.name}", look, declare)

    async def _queue(self, connection: AbstractConnection, queue: Queue) -> list[str]:
        async def look(channel: AbstractChannel) -> None:
            await channel.declare_queue(queue.name, passive=True)

        async def declare(channel: AbstractChannel, found: Found) -> str:
            arguments: Any = topology.declare_arguments(queue)
            word = "was declared; its limits are arguments, fixed for the queue's life"
            if await self._bounded_by_policy(queue, found):
                arguments = {"x-queue-type": "classic"}
                word = "was declared; its limits are a policy"
            declared = await channel.declare_queue(
                queue.name, durable=True, arguments=arguments
            )
            for binding in BINDINGS:
                if binding.queue == queue.name:
                    await declared.bind(binding.exchange, binding.routing_key)
            return word

        return await self._ensure(connection, f"The queue {queue.name}", look, declare)

    async def _ensure(
        self,
        connection: AbstractConnection,
        what: str,
        look: Callable[[AbstractChannel], Awaitable[None]],
        declare: Declare,
    ) -> list[str]:
        found = await _try(connection, look)
        if self._mode != "declare" and found != "missing":
            # What our rights do not let us see (from 4.3.1 on) is the operator's to vouch for.
            return []
        if self._mode == "check":
            return [f"{what} is missing."]
        return await _declare(connection, what, declare, found)

    # ------------------------------------------------------------ over the management API

    async def _bounded_by_policy(self, queue: Queue, found: Found) -> bool:
        """Whether the queue has its policy, which can be changed later without a new queue.

        For a queue that is missing it is set, if we may. What is there is left as it is: an
        operator may have changed it since, and a lower limit could drop what waits.
        """
        if self._management_url is None:
            return False
        api = ManagementApi(self._management_url)
        wanted = topology.policy(queue)
        body = {key: value for key, value in wanted.items() if key not in {"name", "vhost"}}
        path = f"policies/{quoted(self._vhost)}/{quoted(queue.name)}"
        try:
            held = await asyncio.to_thread(_limits_at, api, path)
            if found != "missing" or held.keys() >= queue.limits.keys():
                return bool(held)
            await asyncio.to_thread(api.put, path, body)
        except API_ERRORS:
            return False
        return True

    async def _compare(self, management_url: str) -> list[str]:
        try:
            live = await asyncio.to_thread(_get_queues, management_url, self._vhost)
        except API_ERRORS as error:
            return [f"The management API cannot be read ({error}): limits were not compared."]
        self.bound = topology.live_bound(live.get(topology.REQUESTS, {}))
        return [
            sentence
            for queue in self._queues
            # Right after a start the management API has no statistics yet, policies included.
            if "effective_policy_definition" in live.get(queue.name, {})
            for sentence in topology.differences(queue, live[queue.name])
        ]


async def _try(
    connection: AbstractConnection, look: Callable[[AbstractChannel], Awaitable[None]]
) -> Found:
    """Look on a channel of its own: a miss closes the channel."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        await look(channel)
    except ChannelNotFoundEntity:
        return "missing"
    except (ChannelAccessRefused, ChannelLockedResource):
        return "unknown"
    await channel.close()
    return "there"


async def _declare(
    connection: AbstractConnection,
    what: str,
    declare: Declare,
    found: Found,
) -> list[str]:
    channel = await connection.channel(publisher_confirms=False)
    try:
        word = await declare(channel, found)
    except ChannelAccessRefused:
        if found != "missing":
            return [f"{what} is there, and our user may not declare it: taken as it is."]
        return [
            f"{what} is missing and our user may not declare it. Load rabbitmq/definitions.json."
        ]
    except ChannelPreconditionFailed as error:
        raise StartRefusedError(
            f"{what} is there, but not as the table says: {error}",
            "Run `imagegen topology diff`, or set IMAGE_GEN_TOPOLOGY=auto to use it as it is.",
        ) from error
    except ChannelClosed as error:
        return [f"{what} could not be declared: {error}"]
    await channel.close()
    return [f"{what} {word}."]


def _limits_at(api: ManagementApi, path: str) -> topology.Arguments:
    """Return the limits of a policy; none where it is missing. Raises API_ERRORS."""
    try:
        return dict(api.get(path)["definition"])
    except ManagementError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    return {}


def _get_queues(management_url: str, vhost: str) -> dict[str, dict[str, Any]]:
    """Return the vhost's queues as the management API tells them, by name."""
    queues = ManagementApi(management_url).get(f"queues/{quoted(vhost)}")
    return {queue["name"]: queue for queue in queues}
