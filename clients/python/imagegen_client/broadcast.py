"""The broadcast: a word to every consumer at once, and what they answer to it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aio_pika

from imagegen_client.answers import Answers, Gathering
from imagegen_client.errors import Unavailable
from imagegen_client.link import Link
from imagegen_client.request import CONTROL, word
from imagegen_client.session import Attempt, Session, Told

CONNECT_TIMEOUT_S = 10.0
TAKEN_TIMEOUT_S = 10.0
"""For the broker's word that it has it."""

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Speaks to all consumers, for one user."""

    link: Link
    answers: Answers
    user: str | None

    async def tell(self, words: Mapping[str, Any]) -> None:
        """Say something that is not answered.

        Raises:
            Unavailable: the broker is away, or takes no word from us.
        """
        session = await self.link.session(CONNECT_TIMEOUT_S)
        await _say(session, word(words, self.user))

    async def ask(
        self,
        words: Mapping[str, Any],
        read: Callable[[Any], Said],
        timeout_s: float,
        gather_s: float = 0.0,
    ) -> list[Said]:
        """Ask something, and return what is answered; nothing if nobody answers.

        Args:
            words: the question.
            read: what makes an answer of a body of JSON; what it raises passes the body over.
            timeout_s: seconds to wait for the first answer.
            gather_s: seconds for others after the first.

        Raises:
            Unavailable: as `tell`; or the connection was lost, and perhaps an answer with it.
        """
        session = await self.link.session(CONNECT_TIMEOUT_S)
        with self.answers.gathering(read) as (correlation_id, gathering):
            reply_to = session.reply_to.name
            question = word(words, self.user)
            question.reply_to, question.correlation_id = reply_to, correlation_id
            await _say(session, question)
            return await _gathered(gathering, session, timeout_s, gather_s)


async def _say(session: Session, message: aio_pika.Message) -> None:
    told = None
    attempt = Attempt(CONTROL, "", message, mandatory=False)
    try:
        # A broker that has blocked us takes words later; nobody waits for that.
        async with asyncio.timeout(TAKEN_TIMEOUT_S):
            told = await session.publish(attempt, TAKEN_TIMEOUT_S)
    except TimeoutError:
        pass
    if told is not Told.CONFIRMED:
        raise Unavailable("The broker did not take the word in time.")


async def _gathered(
    gathering: Gathering[Said], session: Session, timeout_s: float, gather_s: float
) -> list[Said]:
    ends: tuple[asyncio.Future[Any], ...] = (gathering.first, session.ended)
    await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if gathering.said and gather_s:
        await asyncio.sleep(gather_s)
    if not gathering.said and session.ended.done():
        raise Unavailable(f"The connection was lost meanwhile: {session.ended.result()}")
    return gathering.said
