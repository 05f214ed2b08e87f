"""The nodes: the URLs that are given of one broker, and which of them is tried next."""

import random
import re
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

SCHEMES = {"amqp", "amqps"}

_BETWEEN = re.compile(r"\s*,\s*(?=amqps?://)")
"""A password may hold a comma, but hardly the beginning of a URL."""


def nodes_in(told: str | Sequence[str]) -> tuple[str, ...]:
    """Return the URLs of the nodes: a sequence, or a text in which commas part them."""
    return tuple(_BETWEEN.split(told.strip())) if isinstance(told, str) else tuple(told)


def disagreement(urls: Sequence[str]) -> str | None:
    """Tell in a sentence why these are not the nodes of one broker; None where they are."""
    faces = set()
    for url in urls or ("",):  # no URL at all is none, either
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
            (host or "").encode("idna")
        except ValueError:  # a port that is no number, a bracket that is not closed, a..b
            return _NO_URL
        if parts.scheme not in SCHEMES or port == 0 or not host or "," in host:
            return _NO_URL
        given = parse_qs(parts.query, keep_blank_values=True)
        if not {"0", "1"}.issuperset(given.get("no_verify_ssl", ())):
            return _NO_CHOICE
        if parts.scheme == "amqp" and not _OF_TLS.isdisjoint(given):
            return _NO_TLS
        faces.add((parts.username, parts.path))
    if len(faces) > 1:
        return (
            "names nodes with different users or vhosts; they have to be those of one broker."
        )
    return None


_NO_URL = (
    "is no amqp:// or amqps:// URL. Give amqp://user:password@host:5672/vhost; what is special in "
    "the password is written with %, such as %2F for a slash. For the nodes of a cluster give "
    "several with commas between."
)

_OF_TLS = {"cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl"}
_NO_TLS = (
    "has parameters of TLS and is amqp://, over which everything goes readable, the password "
    "too. Write amqps:// (port 5671), or leave them out."
)
_NO_CHOICE = (
    "has a no_verify_ssl that is neither 0 nor 1. It is for a look by hand: with any word but 0, "
    "`false` too, nobody looks whose certificate it is."
)


class Nodes:
    """Takes turns. Begins anywhere, so that those with one setting spread over the nodes."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = random.sample(urls, len(urls))
        self._failed = 0
        """In a row, each another one."""

    @property
    def current(self) -> str:
        """The URL of the node whose turn it is."""
        return self._urls[0]

    def stood(self) -> None:
        """Take note that a session stood on the node whose turn it is."""
        self._failed = 0

    def pass_on(self) -> bool:
        """Pass the turn on; True where all had theirs and failed since one stood."""
        self._urls.append(self._urls.pop(0))
        self._failed += 1
        if self._failed < len(self._urls):
            return False
        self._failed = 0
        return True
