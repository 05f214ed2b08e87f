"""What is asked for, and how it is asked for again while its answer, or the broker's word, is missing."""

import asyncio
import random
from typing import NoReturn

from imagegen_client.errors import Busy, Unavailable
from imagegen_client.link import Link
from imagegen_client.mailbox import Address
from imagegen_client.request import EXCHANGE, REQUESTS, Request
from imagegen_client.session import Attempt, Told

CONNECT_TIMEOUT_S = 10.0
CONFIRM_TIMEOUT_S = 10.0
"""Doubled with each try: without the broker's word each may be one more request."""
AGAIN_FIRST_S, AGAIN_MOST_S = 0.5, 8.0


class Pending:
    """One request on its way.

    The service knows a job by its id: however often it is published, it is drawn once, and each
    copy is answered where it asks to be. So whatever makes an answer impossible or doubtful is
    met by publishing once more: the same id, the same body, a reply queue that is there.
    """

    def __init__(self, link: Link, request: Request, correlation_id: str | None) -> None:
        """Take what is asked for; without a correlation id nobody is to be answered."""
        self._link = link
        self._request = request
        self._correlation_id = correlation_id
        self._earlier = False
        self._attempt: Attempt | None = None

    @property
    def perhaps_taken(self) -> bool:
        """Whether a copy may be in the queue, or in somebody's hands."""
        latest = self._attempt is not None and self._attempt.perhaps_taken
        return self._earlier or latest

    async def keep_asking(self) -> NoReturn:
        """Publish, and again whenever the reply queue was lost, until cancelled.

        Raises:
            Busy: the queue is full, and no copy can be in it.
            Unavailable: the broker is away or does not take it, and no copy can be there.
        """
        while True:
            address = await self.confirmed()
            await address.lost.wait()

    async def confirmed(self) -> Address:
        """Publish until the broker has it; returns where the answer will come.

        Raises as `keep_asking`.
        """
        confirm_s, again_s = CONFIRM_TIMEOUT_S, AGAIN_FIRST_S
        while True:
            told, address = await self._publish(confirm_s)
            if told is Told.CONFIRMED:
                return address
            if told is Told.UNKNOWN:
                confirm_s *= 2
            elif not self.perhaps_taken:
                _refuse(told)
            await asyncio.sleep(again_s * (0.5 + random.random()))  # noqa: S311 - no secret
            again_s = min(again_s * 2, AGAIN_MOST_S)

    async def _publish(self, confirm_s: float) -> tuple[Told, Address]:
        """Publish once; returns what became of it and where its answer would come."""
        self._earlier = self.perhaps_taken
        # Nobody is told "unavailable" of what may be drawn this moment: its deadline decides.
        patience_s = (
            None if self._earlier else min(CONNECT_TIMEOUT_S, self._request.remaining_s)
        )
        session = await self._link.session(patience_s)
        reply_to = session.reply_to.name if self._correlation_id else None
        message = self._request.message(reply_to, self._correlation_id)
        self._attempt = Attempt(EXCHANGE, REQUESTS, message)
        try:
            told = await session.publish(self._attempt, confirm_s)
        except Unavailable:
            if not self._earlier:
                raise
            told = Told.UNKNOWN
        return told, session.reply_to


def _refuse(told: Told) -> None:
    if told is Told.FULL:
        raise Busy("The queue is full. Try again in a few seconds.")
    if told is Told.RETURNED:
        raise Unavailable(
            f"The broker has no queue behind the exchange {EXCHANGE}. "
            "Is the service set up on this vhost?"
        )
