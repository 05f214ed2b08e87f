"""The server: uvicorn in a thread, so that probes answer while the main loop is busy or stuck."""

import socket
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from consumer.errors import StartRefusedError

STOP_TIMEOUT_S = 5.0


class HttpServer:
    """Serves routes until it is stopped."""

    def __init__(self, host: str, port: int, routes: list[Route]) -> None:
        self._host = host
        self._port = port
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

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
        except OSError as error:
            listener.close()
            raise StartRefusedError(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror}. "
                "Set IMAGE_GEN_HOST and IMAGE_GEN_PORT to an address that is free."
            ) from error
        self._socket = listener
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="http", daemon=True
        )
        self._thread.start()
        port: int = listener.getsockname()[1]
        return port

    def stop(self) -> None:
        """Stop serving. May be called twice, or without a start."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
        if self._socket is not None:
            self._socket.close()
