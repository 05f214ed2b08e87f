"""The link of the fault bench: what each fault does to the bytes that pass."""

import asyncio
import struct

import pytest

from bench.chaos.proxy import BASIC_ACK, METHOD, Link, is_reply

GREETING = b"AMQP\x00\x00\x09\x01"


def frame(payload, kind=METHOD, channel=1):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def publish(exchange, key):
    names = bytes([len(exchange)]) + exchange + bytes([len(key)]) + key
    return frame(struct.pack(">HHH", 60, 40, 0) + names + b"\x00")


async def drained(reader):
    while await reader.read(100):
        pass


ACK = frame(struct.pack(">HHQB", *BASIC_ACK, 1, 0))
NOTE = frame(b"a heartbeat's worth", kind=8)


@pytest.fixture
async def broker():
    """A broker's end: the port, and the connection that came in."""
    arrived = asyncio.Queue()

    async def serve(reader, writer):
        await arrived.put((reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], arrived
    server.close()


@pytest.fixture
async def ends(broker):
    """A link, the client's end and the broker's end, with the greeting through."""
    port, arrived = broker
    async with asyncio.timeout(30), Link(port) as link:
        client = await asyncio.open_connection("127.0.0.1", link.port)
        client[1].write(GREETING)
        far = await arrived.get()
        assert await far[0].readexactly(len(GREETING)) == GREETING
        yield link, client, far
        for _, writer in (client, far):
            writer.close()


async def test_frames_pass_both_ways(ends):
    """Without a fault the link is not there."""
    _, (reader, writer), (far_reader, far_writer) = ends
    writer.write(ACK + NOTE)
    far_writer.write(NOTE)
    assert await far_reader.readexactly(len(ACK + NOTE)) == ACK + NOTE
    assert await reader.readexactly(len(NOTE)) == NOTE


async def test_a_hole_swallows_one_direction_and_gives_it_back(ends):
    """What was sent into a hole arrives when it is healed; the other direction passes meanwhile."""
    link, (reader, writer), (far_reader, far_writer) = ends
    link.to_broker.swallow()
    writer.write(ACK)
    far_writer.write(NOTE)
    assert await reader.readexactly(len(NOTE)) == NOTE
    arriving = asyncio.get_running_loop().create_task(far_reader.readexactly(len(ACK)))
    far_writer.write(NOTE)
    assert await reader.readexactly(len(NOTE)) == NOTE
    assert not arriving.done()
    link.heal()
    assert await arriving == ACK


async def test_a_held_frame_waits_until_it_is_released(ends):
    """The frame of the wanted kind is kept, and what comes behind it."""
    link, (_, writer), (far_reader, _) = ends
    hold = link.to_broker.hold(lambda passing: passing.method == BASIC_ACK)
    writer.write(NOTE + ACK + NOTE)
    assert await far_reader.readexactly(len(NOTE)) == NOTE
    assert (await hold.frame).raw == ACK
    hold.release()
    assert await far_reader.readexactly(len(ACK + NOTE)) == ACK + NOTE


async def test_half_a_frame_and_then_a_reset(ends):
    """The receiver gets half of a body and then RST, and so does the sender."""
    link, (reader, writer), (far_reader, _) = ends
    body = frame(b"x" * 1000, kind=3)
    link.to_broker.cut_above = 500
    writer.write(body)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await drained(far_reader)


async def test_a_fin_ends_both_sides(ends):
    """Closed in order, both ends read to the end of the stream."""
    link, (reader, _), (far_reader, _) = ends
    link.close()
    assert await reader.read() == b""
    assert await far_reader.read() == b""


async def test_an_injected_frame_arrives_as_if_the_client_had_sent_it(ends):
    """The broker cannot tell."""
    link, _, (far_reader, _) = ends
    link.inject(1, ACK)
    assert await far_reader.readexactly(len(ACK)) == ACK


async def test_channels_are_counted_as_they_open_and_close(ends):
    """Open-ok adds one, close-ok of either side takes one, the end of the connection all."""
    link, (reader, _), (_, far_writer) = ends
    opened = frame(struct.pack(">HHI", 20, 11, 0))
    other = frame(struct.pack(">HHI", 20, 11, 0), channel=2)
    far_writer.write(opened + other)
    await reader.readexactly(len(opened + other))
    far_writer.write(frame(struct.pack(">HH", 20, 41)) + NOTE)
    await reader.readuntil(NOTE)
    assert link.channels == 1


@pytest.mark.parametrize(
    ("exchange", "key", "reply"),
    [
        (b"", b"imagegen.client.me", True),
        (b"", b"amq.gen-x", True),
        (b"", b"imagegen.parking", False),
        (b"imagegen.events", b"job.step.1", False),
    ],
)
async def test_a_reply_is_told_from_news_and_parking(ends, exchange, key, reply):
    """Replies go straight to a caller's queue."""
    link, (_, writer), (far_reader, _) = ends
    seen = []
    link.watch = seen.append
    raw = publish(exchange, key)
    writer.write(raw + NOTE)
    await far_reader.readexactly(len(raw + NOTE))
    assert is_reply(next(passed for passed in seen if passed.method)) is reply
