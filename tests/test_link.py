"""One link to the broker: what a dial that fails leaves behind."""

import aio_pika
import pytest

from consumer.connection.link import LINK_ERRORS, dialled


async def test_a_dial_that_fails_leaves_nothing_open(unused_tcp_port, monkeypatch):
    """aio-pika would close it when it is collected: in any thread, where no loop runs."""
    made = []

    class Kept(aio_pika.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(aio_pika, "Connection", Kept)
    with pytest.raises(LINK_ERRORS):
        async with dialled(f"amqp://a:b@127.0.0.1:{unused_tcp_port}/imagegen", "tester"):
            pytest.fail("nobody listens there")
    assert [connection.is_closed for connection in made] == [True]
