"""The chat, started: CHAT_AMQP_URL=amqp://... python -m examples.chat."""

import asyncio
import contextlib
import logging
import socket

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from examples.chat.accounts import Accounts
from examples.chat.answers import Answers
from examples.chat.conversations import Conversations
from examples.chat.database import opened
from examples.chat.gallery import Gallery
from examples.chat.sessions import Sessions
from examples.chat.settings import Settings, settings
from examples.chat.studio import Studio
from examples.chat.tabs import Tabs
from examples.chat.web import Parts, Web
from imagegen_client import ImageClient

GRACE_S = 2
"""For answers under way when it ends."""


class Server(uvicorn.Server):
    """A server that says when it is ready, and has the streams of open pages end before it does."""

    def __init__(self, app: ASGIApp, tabs: Tabs, address: str, proxy: str) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=bool(proxy),
                forwarded_allow_ips=proxy,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._tabs = tabs
        self._address = address

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"The chat is ready: {self._address}", flush=True)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tabs.close()
        await super().shutdown(sockets)


async def serve(chosen: Settings, listener: socket.socket) -> None:
    """Serve until a signal."""
    database = opened(chosen.data_dir)
    conversations, gallery, tabs = Conversations(database), Gallery(database), Tabs()
    studio = Studio(ImageClient(chosen.amqp_url), gallery, tabs)
    answers = Answers(conversations, gallery, studio, tabs, chosen.deadline_s)
    parts = Parts(
        settings=chosen,
        accounts=Accounts(database),
        sessions=Sessions(database),
        conversations=conversations,
        gallery=gallery,
        studio=studio,
        tabs=tabs,
        answers=answers,
    )
    server = Server(Web(parts).application(), tabs, _address(listener), chosen.proxy)
    await server.serve([listener])
    database.close()


def main() -> None:
    """Listen and serve, and end without a stack on Ctrl+C."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    chosen = settings()
    family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((chosen.host, chosen.port))
    except OSError as error:
        where = f"{chosen.host}:{chosen.port}"
        raise SystemExit(
            f"{where} cannot be listened on: {error.strerror}. Set CHAT_PORT to another port."
        ) from None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(chosen, listener))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    main()
