"""The guard: whatever properties a message has, reading them does not end the connection."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.base import BasicProperties
from pamqp.commands import Basic

from consumer import guard


@pytest.fixture(scope="module", autouse=True)
def guarded():
    original = BasicProperties.unmarshal
    guard.install()
    yield
    BasicProperties.unmarshal = original


def read(**raw):
    """Read properties from what stands on the wire, in the order of the specification."""
    properties = Basic.Properties()
    names = [name for name in properties.__slots__ if name in raw]
    flags = sum(properties.flags[name] for name in names)
    properties.unmarshal(flags, b"".join(raw[name] for name in names))
    return properties


def short(text):
    return bytes([len(text)]) + text


def nested(depth):
    """A table in a table in a table."""
    table = b"\1aV"
    for _ in range(depth):
        table = b"\1aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


GOOD = {"content_type": short(b"text/plain"), "message_id": short(b"mine")}


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("timestamp", struct.pack(">Q", 2**64 - 1)),
        ("correlation_id", short(b"\xff\xfe")),
        ("reply_to", short(b"\xff\xfe")),
        ("headers", struct.pack(">I", 3) + b"\1\xffV"),
        ("headers", struct.pack(">I", 3) + b"\1a?"),
        ("headers", nested(5_000)),
    ],
    ids=["timestamp", "correlation id", "reply_to", "key", "type", "depth"],
)
def test_what_cannot_be_read_is_left_out_and_named(name, raw):
    """The property is missing, its name stands among the headers, and the others are there."""
    properties = read(**GOOD, **{name: raw})
    assert (properties.content_type, properties.message_id) == ("text/plain", "mine")
    assert properties.headers[guard.UNREADABLE] == name
    assert name == "headers" or getattr(properties, name, None) is None


def test_what_can_be_read_is_as_it_was():
    """The guard changes nothing of an honest message."""
    properties = read(**GOOD, headers=nested(3), timestamp=struct.pack(">Q", 1_800_000_000))
    assert properties.headers == {"a": {"a": {"a": {"a": None}}}}
    assert properties.timestamp.year == 2027


@given(st.integers(0, 0xFFFC).map(lambda flags: flags & ~0b11), st.binary(max_size=300))
def test_no_bytes_get_through_the_guard(flags, data):
    """Any flags over any bytes are read, as far as they can be."""
    Basic.Properties().unmarshal(flags, data)
