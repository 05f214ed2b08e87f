"""The limits of a connection: how many there may be, and how slow its other side may be."""

import asyncio
import fcntl
import struct
import termios
from typing import Any

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MOST = 512
"""Open at once; beyond it a new one is closed unheard. Many systems give a process 1,024 files,
and the broker, the store and the GPU process need some of them."""
HEAD_TIMEOUT_S = 10.0
"""For the request line and headers, from the first byte, or from the connection's begin; and for
the rest of a body that was answered before its end."""
TAKE_TIMEOUT_S = 30.0
"""In which a client that has something to take takes some of it, or is given up."""
HEAD_BYTES = 16 * 1024
"""The most that a request line with its headers may have."""


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which itself waits for ever for the rest of a request, or for a reader."""

    _head: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MOST:
            transport.abort()
        else:
            self._expect_head()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._between_requests:
            self._forget_head()
        elif self._head is None and not self.transport.is_closing():
            self._expect_head()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._between_requests and self.conn.their_state is h11.SEND_BODY:
            self._expect_head()
        # All of it may be with us yet; closing the connection would wait for that, too.
        self._expect_to_take()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_to_take()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_taking()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_taking()
        super().connection_lost(exc)

    @property
    def _between_requests(self) -> bool:
        """Whether nothing is owed but the next request, or the rest of one that has its answer."""
        theirs = self.conn.their_state
        return theirs is h11.IDLE or (theirs is h11.SEND_BODY and self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._forget_head()
        self._head = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _expect_to_take(self) -> None:
        """Give the client up unless it takes some of what there is now."""
        self._forget_taking()
        left = self._left()
        if left:
            self._taking = self.loop.call_later(TAKE_TIMEOUT_S, self._look_what_is_left, left)

    def _look_what_is_left(self, before: int) -> None:
        if self._left() < before:
            self._expect_to_take()
        else:
            self.transport.abort()

    def _left(self) -> int:
        """Return the bytes that the client has yet to take, if any of them is in our memory.

        Those in the system's count with them: it takes megabytes off us at once, and long before
        the client had them.
        """
        ours = self.transport.get_write_buffer_size()
        if not ours:
            return 0
        line = self.transport.get_extra_info("socket")
        return ours + int(struct.unpack("i", fcntl.ioctl(line, termios.TIOCOUTQ, bytes(4)))[0])

    def _forget_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
