"""The presence: asks the broker whether a caller still waits at its reply queue."""

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, cast

from aiormq import spec
from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity
from typing_extensions import override

from consumer.connection import LINK_ERRORS, Broker, Session, while_alive
from consumer.logs import logger

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel
    from aiormq import Channel

log = logger(__name__)

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
ASK_TIMEOUT_S = 5.0
SUSPECTS_MOST = 1000

_PROCESS_ID_HEADS = (b"\x83X", b"\x83g")
"""NEW_PID_EXT and PID_EXT of Erlang's external term format."""


class Presence:
    """Looks for reply queues by a passive declare, each on a channel that is thrown away.

    The broker's words: there, or 405 (exclusive to its caller) = alive; 404 = gone; 403 = we may
    not know, and go on. It is asked on the connection that consumes: the other one is not read
    while the broker is short of memory.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._suspects: set[str] = set()
        self._asked: dict[str, asyncio.Task[bool]] = {}
        """Questions on their way. They are left to their end: a channel that is given up between
        two words of its opening or closing costs the connection."""

    async def gone(self, reply_to: str) -> bool:
        """Tell whether the queue is certainly not there; in doubt it is."""
        session = self._broker.session
        if session is None or reply_to in self._suspects or is_forged(reply_to):
            return False
        asked = self._asked.get(reply_to)
        if asked is None:
            asked = asyncio.get_running_loop().create_task(self._ask(session, reply_to))
            self._asked[reply_to] = asked
            asked.add_done_callback(lambda _: self._asked.pop(reply_to))
        done, _ = await asyncio.wait({asked}, timeout=ASK_TIMEOUT_S)
        return bool(done) and asked.result()

    async def _ask(self, session: Session, reply_to: str) -> bool:
        try:
            await while_alive(session, _look(session, reply_to))
        except ChannelNotFoundEntity as error:
            # A classic queue whose node is down is "not found" as well, and comes back with it.
            return "down or inaccessible" not in str(error)
        except ChannelClosed as error:
            log.debug("presence_unknown", reply_to=reply_to, problem=str(error))
        except (*LINK_ERRORS, ValueError) as error:
            log.info("presence_unknown", reply_to=reply_to, problem=str(error))
            self._suspect(reply_to)
        return False

    def _suspect(self, reply_to: str) -> None:
        """Never ask again for a direct reply-to that the link broke on.

        The broker decodes such a name, and its own code may have broken on it. A queue's name it
        only looks up: there the link broke by itself, and the caller is still to be asked about.
        """
        if not reply_to.startswith(DIRECT_REPLY_TO):
            return
        if len(self._suspects) >= SUSPECTS_MOST:
            self._suspects.clear()
        self._suspects.add(reply_to)


def is_forged(reply_to: str) -> bool:
    """Tell whether this is a direct reply-to that the broker cannot have made.

    It holds a process id; what does not decode to one breaks the broker's code (3.10).
    """
    if not reply_to.startswith(DIRECT_REPLY_TO):
        return False
    process = reply_to.removeprefix(f"{DIRECT_REPLY_TO}.").partition(".")[0]
    try:
        return base64.b64decode(process, validate=True)[:2] not in _PROCESS_ID_HEADS
    except ValueError:
        return True


class _Lookup(spec.Queue.Declare):
    """A passive declare of any name: the library refuses those of direct reply-to."""

    @override
    def validate(self) -> None:
        """Leave the name to the broker."""


async def _look(session: Session, name: str) -> None:
    channel: AbstractChannel = await session.consume.channel(publisher_confirms=False)
    try:
        underlay = cast("Channel", await channel.get_underlay_channel())
        await underlay.rpc(_Lookup(queue=name, passive=True))
    finally:
        with contextlib.suppress(*LINK_ERRORS):
            await channel.close()
