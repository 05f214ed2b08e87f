"""The link: keeps a session with the broker up, and lends it."""

import asyncio
import random
from collections.abc import Sequence

from imagegen_client.dial import CLOSE_TIMEOUT_S, LINK_ERRORS, address, dialled, user_of
from imagegen_client.errors import Unavailable
from imagegen_client.mailbox import Mailbox, OnMessage, ReplyQueue
from imagegen_client.news import News
from imagegen_client.nodes import Nodes, disagreement
from imagegen_client.session import Session

ATTACH_TIMEOUT_S = 15.0
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.25, 4.0


class Link:
    """Connects, keeps connected, and lends the session of the moment."""

    def __init__(
        self, urls: Sequence[str], reply_queue: ReplyQueue, on_reply: OnMessage
    ) -> None:
        """Take the URLs of the broker's nodes. Raises ValueError where they are none."""
        problem = disagreement(urls)
        if problem is not None:
            raise ValueError(f"What was given as the broker {problem}")
        self._nodes = Nodes(urls)
        self._mailbox = Mailbox(reply_queue, on_reply)
        self._session: Session | None = None
        self._change = asyncio.Event()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self.news = News()
        self.user = user_of(address(urls[0]))
        self.problem = "not connected yet"

    def start(self) -> None:
        """Begin to connect; returns at once. May be called twice."""
        self._closed = False
        if self._keeper is None:
            loop = asyncio.get_running_loop()
            self._keeper = loop.create_task(self._keep(), name="imagegen-client-link")

    async def stop(self) -> None:
        """Disconnect and remove the reply queue. May be called twice."""
        self._closed = True
        self._tell()
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        await self._leave()
        keeper.cancel()
        await asyncio.wait({keeper})

    async def session(self, timeout_s: float | None = None) -> Session:
        """Return the session of the moment, once there is one.

        Raises:
            Unavailable: there was none for `timeout_s` seconds, or the client was closed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (session := self.up) is None:
                    if self._closed:
                        raise Unavailable("The client was closed.", retryable=False)
                    await self._change.wait()
                return session
        except TimeoutError:
            raise Unavailable(
                f"The broker could not be reached in time: {self.problem}"
            ) from None

    @property
    def up(self) -> Session | None:
        """The session of the moment, if there is one."""
        session = self._session
        return None if session is None or session.ended.done() else session

    async def _leave(self) -> None:
        session = self.up
        if session is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._mailbox.leave()
            except LINK_ERRORS:
                session.line.cut()  # it did not answer: no use in parting politely
        self._mailbox.lose()

    async def _keep(self) -> None:
        delay = BACKOFF_FIRST_S
        while True:
            try:
                await self._live()
                delay = BACKOFF_FIRST_S
            except Exception as error:  # noqa: BLE001 - whatever it was: the next try may do
                self.problem = f"{type(error).__name__}: {error}"
            # Whatever ended it: what a node has lost, the next one may have.
            all_failed = self._nodes.pass_on()
            # Full jitter, so that a fleet does not come back in step.
            await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - no secret
            if all_failed:
                delay = min(delay * 2, BACKOFF_MOST_S)

    async def _live(self) -> None:
        async with dialled(address(self._nodes.current)) as line:
            session = Session(line)
            try:
                async with asyncio.timeout(ATTACH_TIMEOUT_S):
                    session.reply_to = await self._mailbox.open(line.connection, session.lose)
                    await self.news.open(line)
                self._session = session
                self._nodes.stood()
                self._tell()
                self.problem = await session.watch()
            finally:
                self._session = None
                self.news.close()
                session.end()

    def _tell(self) -> None:
        """Wake whoever waits for a session."""
        self._change.set()
        self._change = asyncio.Event()
