"""The limits of a connection: how many there may be, and how slowly a request may begin."""

import asyncio
from typing import Any

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MOST = 512
"""Open at once; beyond it a new one is closed unheard. Many systems give a process 1,024 files,
and the broker, the store and the GPU process need some of them."""
HEAD_TIMEOUT_S = 10.0
"""For the request line and headers, from the first byte, or from the connection's begin."""
HEAD_BYTES = 16 * 1024
"""The most that a request line with its headers may have."""


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which itself waits for ever for the rest of a header."""

    _head: asyncio.TimerHandle | None = None

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
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None and not self.transport.is_closing():
            self._expect_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
