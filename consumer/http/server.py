"""The server: uvicorn in a thread, so that probes answer while the main loop is busy or stuck."""

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Coroutine

import uvicorn
from starlette.types import ASGIApp

from consumer.errors import StartRefusedError
from consumer.http.limits import HEAD_BYTES, LimitedProtocol

CLOSE_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0
BACKLOG = 128
GRACE_S = 2
"""For answers under way, in whole seconds as uvicorn has it."""
TURN_S = 0.001
"""How long a thread that computes in Python may keep the interpreter from ours. By Python's own
5 ms, an answer that needs a few turns took up to 0.7 s beside an event loop that never waits."""


class HttpServer:
    """Serves an application until it is stopped."""

    def __init__(
        self,
        host: str,
        port: int,
        app: ASGIApp,
        close: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        """Take what to serve, and what is to be done in its loop before the last answers go out."""
        self._host = host
        self._port = port
        self._close = close
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=LimitedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=HEAD_BYTES,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> int:
        """Listen, and serve in a thread. Returns the port.

        Raises:
            StartRefusedError: if the address cannot be had.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
            # Two may bind one address before either listens, so that tells who has it; and who comes
            # before the thread is ready waits, and is not refused.
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise StartRefusedError(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror}. "
                "Set IMAGE_GEN_HOST and IMAGE_GEN_PORT to an address that is free."
            ) from error
        self._socket = listener
        sys.setswitchinterval(TURN_S)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()
        port: int = listener.getsockname()[1]
        return port

    @property
    def running(self) -> bool:
        """Whether the thread that was started is there."""
        return self._thread is None or self._thread.is_alive()

    def stop(self) -> None:
        """Stop serving. May be called twice, or without a start."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                closing.result(CLOSE_TIMEOUT_S)
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            listener = self._socket
            assert listener is not None  # noqa: S101 - start makes it
            runner.run(self._server.serve([listener]))
