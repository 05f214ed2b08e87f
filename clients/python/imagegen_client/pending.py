"""What is waited for, and how it is asked for again when its answer cannot come any more."""

import asyncio
import random
from typing import NoReturn

from imagegen_client.errors import Busy, Unavailable
from imagegen_client.link import Link
from imagegen_client.request import EXCHANGE, REQUESTS, Request
from imagegen_client.session import Told

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

    def __init__(self, link: Link, request: Request, correlation_id: str) -> None:
        self._link = link
        self._request = request
        self._correlation_id = correlation_id
        self.perhaps_taken = False
        """A copy may be in the queue, or in somebody's hands."""

    async def keep_asking(self) -> NoReturn:
        """Publish, and again whenever the reply queue was lost, until cancelled.

        Raises:
            Busy: the queue is full, and no copy can be in it.
            Unavailable: the broker is away or does not take it, and no copy can be there.
        """
        confirm_s, again_s = CONFIRM_TIMEOUT_S, AGAIN_FIRST_S
        while True:
            told = await self._publish(confirm_s)
            if told is Told.CONFIRMED:
                confirm_s, again_s = CONFIRM_TIMEOUT_S, AGAIN_FIRST_S
                continue
            if told is Told.UNKNOWN:
                confirm_s *= 2
            elif not self.perhaps_taken:
                _refuse(told)
            await asyncio.sleep(again_s * (0.5 + random.random()))  # noqa: S311 - no secret
            again_s = min(again_s * 2, AGAIN_MOST_S)

    async def _publish(self, confirm_s: float) -> Told:
        """Publish once; if it was confirmed, return when its reply queue is lost."""
        earlier = self.perhaps_taken
        # Nobody is told "unavailable" of what may be drawn this moment: its deadline decides.
        patience_s = None if earlier else min(CONNECT_TIMEOUT_S, self._request.remaining_s)
        session = await self._link.session(patience_s)
        message = self._request.message(session.reply_to.name, self._correlation_id)
        self.perhaps_taken = True
        try:
            told = await session.publish(EXCHANGE, REQUESTS, message, confirm_s)
        except Unavailable:
            self.perhaps_taken = earlier
            if not earlier:
                raise
            told = Told.UNKNOWN
        if told is Told.CONFIRMED:
            await session.reply_to.lost.wait()
        elif told is not Told.UNKNOWN:
            self.perhaps_taken = earlier
        return told


def _refuse(told: Told) -> None:
    if told is Told.FULL:
        raise Busy("The queue is full. Try again in a few seconds.")
    if told is Told.RETURNED:
        raise Unavailable(
            f"The broker has no queue behind the exchange {EXCHANGE}. "
            "Is the service set up on this vhost?"
        )
