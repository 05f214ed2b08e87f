"""The settings: CHAT_* variables, read once."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """What the chat is started with."""

    amqp_url: str
    """CHAT_AMQP_URL: as what `./control.sh image amqp-url` prints."""
    host: str = "127.0.0.1"
    """CHAT_HOST: loopback, unless something that speaks TLS stands before it."""
    port: int = 8035
    """CHAT_PORT; 0 takes any that is free."""
    data_dir: Path = Path(".imagegen/chat")
    """CHAT_DATA_DIR: accounts, conversations and pictures."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """CHAT_ALLOWED_HOSTS, with commas between: names under which browsers may call."""
    proxy: str = ""
    """CHAT_PROXY: address of the proxy before it, whose X-Forwarded-For is believed."""
    secure_cookie: bool = False
    """CHAT_SECURE_COOKIE=1: the cookie travels by TLS alone."""
    deadline_s: float = 300.0
    """CHAT_DEADLINE_S: how long a user waits for a picture."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _yes(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text == "1"


_READ: dict[str, tuple[str, Callable[[str], Any]]] = {
    "CHAT_AMQP_URL": ("amqp_url", str),
    "CHAT_HOST": ("host", str),
    "CHAT_PORT": ("port", int),
    "CHAT_DATA_DIR": ("data_dir", Path),
    "CHAT_ALLOWED_HOSTS": ("allowed_hosts", _names),
    "CHAT_PROXY": ("proxy", str),
    "CHAT_SECURE_COOKIE": ("secure_cookie", _yes),
    "CHAT_DEADLINE_S": ("deadline_s", float),
}


def settings() -> Settings:
    """Read the environment.

    Raises:
        SystemExit: what is there makes no sense, in a sentence.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("CHAT_")}
    unknown = sorted(given.keys() - _READ.keys())
    if unknown:
        raise SystemExit(f"{unknown[0]} is no setting. There are: {', '.join(_READ)}.")
    if "CHAT_AMQP_URL" not in given:
        raise SystemExit("Set CHAT_AMQP_URL to what ./control.sh image amqp-url prints.")
    try:
        return Settings(
            **{_READ[name][0]: _READ[name][1](text) for name, text in given.items()}
        )
    except ValueError as error:
        raise SystemExit(f"A CHAT_ setting cannot be read: {error}") from None
