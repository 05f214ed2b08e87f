"""The guard: message properties that cannot be decoded must not take the connection down.

The AMQP library decodes the properties of a delivery in the task that reads the connection. A
timestamp beyond the year 9999 or bytes that are no UTF-8 end that task, and the broker brings the
same message again on the next connection, for ever. With the guard the property is left out, and
its name is noted among the headers.
"""

import struct

from pamqp import decode
from pamqp.base import BasicProperties, Frame
from pamqp.commands import Basic

UNREADABLE = "x-imagegen-unreadable"
"""The header that lists the properties left out."""


def install() -> None:
    """Have properties decoded one by one, each failure for itself. May be called twice."""
    BasicProperties.unmarshal = _unmarshal  # type: ignore[assignment, method-assign]
    Basic.Deliver.unmarshal = _unmarshal_deliver  # type: ignore[assignment, method-assign]


def _unmarshal_deliver(deliver: Basic.Deliver, data: bytes) -> None:
    """Decode a delivery's frame; a routing key that is no UTF-8 is left empty.

    The key is of the publisher's choice, also where a `CC` header brings the message to us.
    """
    try:
        Frame.unmarshal(deliver, data)
    except UnicodeDecodeError:
        tag_end = 1 + data[0]
        exchange_start = tag_end + 8 + 1  # delivery tag, redelivered
        key_start = exchange_start + 1 + data[exchange_start]
        Frame.unmarshal(deliver, data[:key_start] + b"\0")


def _unmarshal(properties: BasicProperties, flags: int, data: bytes) -> None:
    unreadable: list[str] = []
    for name in properties.__slots__:
        if not flags & properties.flags[name]:
            continue
        amqp_type: str = getattr(type(properties), f"_{name}")
        size = _size(amqp_type, data)
        try:
            _, value = decode.by_type(data[:size], amqp_type)
            setattr(properties, name, value)
        except (ValueError, OverflowError, OSError, struct.error, IndexError, RecursionError):
            unreadable.append(name)
        data = data[size:]
    if unreadable:
        headers = getattr(properties, "headers", None)
        setattr(  # noqa: B010 - the attribute is the subclass's
            properties, "headers", {**(headers or {}), UNREADABLE: ",".join(unreadable)}
        )


def _size(amqp_type: str, data: bytes) -> int:
    """Return the bytes a property takes up (AMQP 0-9-1, section 4.2.5)."""
    match amqp_type:
        case "shortstr":
            return 1 + data[0] if data else 0
        case "table":
            return 4 + int.from_bytes(data[:4], "big")
        case "timestamp":
            return 8
        case _:
            return 1
