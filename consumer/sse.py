"""The events of a text/event-stream (WHATWG HTML, 9.2), as far as this service sends them."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

MOST_BYTES = 1 << 20
"""Of one event; what sends more is no service of ours."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    name: str
    data: str


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[Event]:
    """Give the events of a stream; one that is cut off is left out.

    Raises:
        ValueError: it is no such stream.
    """
    name, data = "message", list[str]()
    async for line in _lines(chunks):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(name, "\n".join(data))
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Give the whole lines. By bytes: str.splitlines would break a prompt at U+2028."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode()
        if len(rest) > MOST_BYTES:
            raise ValueError("a line without an end")
