"""The parking commands: nothing is lost by looking, and a replay is a request like any other."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import pika
import pytest

from tests.rpc import Requester

ROOT = Path(__file__).resolve().parent.parent
PARKING = "imagegen.parking"


@pytest.fixture
def imagegen(broker, tmp_path):
    """Run `imagegen parking` with the rights of the service, as `docker exec` would."""

    def run(*arguments, user="imagegen-consumer", stdin=""):
        return subprocess.run(
            [sys.executable, "-m", "consumer", "parking", *arguments],
            env={
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "80",
                "IMAGE_GEN_AMQP_URL": broker.url(user),
            },
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    async def imagegen(*arguments, **how):
        return await asyncio.to_thread(run, *arguments, **how)

    return imagegen


class Lot:
    """The parking queue, seen by an administrator, filled as the service fills it."""

    def __init__(self, channel):
        self._channel = channel

    async def park(self, number, body=None, **headers):
        """Park copy `number`; headers as the service writes them."""
        given = {
            "reason": "internal",
            "reply-to": "imagegen.client.gone",
            "message-id": f"job-{number}",
            "type": "imagegen.request.v1",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        message = aio_pika.Message(
            body or json.dumps({"prompt": f"prompt {number}"}).encode(),
            content_type="application/json",
            correlation_id=f"corr-{number}",
            message_id=f"copy-{number}",
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
            headers={f"x-imagegen-{name}": value for name, value in given.items()},
            delivery_mode=2,
        )
        await self._channel.default_exchange.publish(message, PARKING)

    async def ids(self):
        """What lies there, in order; it is taken out by looking."""
        queue = await self._channel.get_queue(PARKING, ensure=False)
        found = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append(message.message_id)
        return found

    async def request(self):
        """Take the next request out; None if there is none."""
        queue = await self._channel.get_queue("imagegen.requests", ensure=False)
        return await queue.get(no_ack=True, fail=False)

    async def fill(self):
        exchange = await self._channel.get_exchange("imagegen", ensure=False)
        for number in range(20):
            message = aio_pika.Message(b"{}", message_id=str(number))
            await exchange.publish(message, "imagegen.requests")


@pytest.fixture
async def lot(broker):
    broker.purge()
    connection = await aio_pika.connect(broker.url("admin"))
    async with connection:
        yield Lot(await connection.channel())
    broker.purge()


# ---------------------------------------------------------------- list


async def test_list_shows_each_parked_request(lot, imagegen):
    """Reason, time, ids, reply queue, user and size of each, the oldest first; no prompt."""
    await lot.park(1, user_id="chat-backend")
    await lot.park(2, reason="poison")
    shown = await imagegen("list", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    first, second = (json.loads(line) for line in shown.stdout.splitlines())
    assert first == {
        "id": "copy-1",
        "reason": "internal",
        "parked_at": "2026-01-01T00:00:00+00:00",
        "job_id": "job-1",
        "correlation_id": "corr-1",
        "reply_to": "imagegen.client.gone",
        "user": "chat-backend",
        "bytes": 22,
    }
    assert (second["id"], second["reason"], second["user"]) == ("copy-2", "poison", "")


async def test_list_takes_nothing_away_and_keeps_the_order(lot, imagegen):
    """After any number of looks everything lies where it lay."""
    for number in range(5):
        await lot.park(number)
    for _ in range(2):
        shown = await imagegen("list")
        assert shown.returncode == 0
        for number in range(5):
            assert f"copy-{number}" in shown.stdout
        assert "prompt" not in shown.stdout
    assert await lot.ids() == [f"copy-{number}" for number in range(5)]


async def test_list_shows_how_prompts_begin_when_asked(lot, imagegen):
    """Sixty characters of what people wrote, on request only; none where there is none."""
    await lot.park(1, json.dumps({"prompt": "ab" * 50}).encode())
    await lot.park(2, b"\xff no json")
    shown = await imagegen("list", "--json", "--prompts")
    prompts = [json.loads(line)["prompt"] for line in shown.stdout.splitlines()]
    assert prompts == ["ab" * 30, ""]


async def test_list_does_not_let_strangers_write_to_the_terminal(lot, imagegen):
    """Escapes and markup in what callers chose are shown, not obeyed."""
    await lot.park(1, message_id="\x1b[2J[bold]x" + "y" * 60)
    shown = await imagegen("list")
    assert "\x1b" not in shown.stdout
    assert "[bold]x" + "y" * 60 in shown.stdout


async def test_an_empty_parking_is_told(lot, imagegen):
    """Nothing there is no error; `--json` is empty then."""
    assert (await imagegen("list")).stdout == "Nothing is parked.\n"
    assert (await imagegen("list", "--json")).stdout == ""


# ---------------------------------------------------------------- replay


async def test_replay_publishes_the_request_as_it_came(lot, imagegen):
    """Body, ids, type, reply queue and patience are those of the original; the copy is gone."""
    await lot.park(1)
    await lot.park(2, b'{"prompt": "x"}', expiration_s="12.5", accept="image/png")
    done = await imagegen("replay", "copy-2")
    assert (done.returncode, done.stdout) == (0, "copy-2 replayed\n")
    request = await lot.request()
    assert request.body == b'{"prompt": "x"}'
    assert (request.message_id, request.correlation_id) == ("job-2", "corr-2")
    assert (request.type, request.content_type) == ("imagegen.request.v1", "application/json")
    assert (request.reply_to, request.expiration) == ("imagegen.client.gone", 12.5)
    assert request.headers == {"x-imagegen-accept": "image/png"}
    assert request.timestamp > datetime(2026, 1, 2, tzinfo=UTC)
    assert await lot.ids() == ["copy-1"]


async def test_replay_of_poison_gets_an_id_of_its_own(lot, imagegen):
    """Its job id is answered from the store for ever: the copy's id is the new one."""
    await lot.park(1, reason="poison")
    await imagegen("replay", "job-1")
    assert (await lot.request()).message_id == "copy-1"


@pytest.mark.parametrize(
    ("flag", "reason", "message_id"),
    [("--same-id", "poison", "job-1"), ("--new-id", "internal", "copy-1")],
)
async def test_replay_takes_the_id_that_is_asked_for(lot, imagegen, flag, reason, message_id):
    """The operator may know better."""
    await lot.park(1, reason=reason)
    await imagegen("replay", "--all", flag)
    assert (await lot.request()).message_id == message_id


async def test_replay_gives_a_fresh_deadline(lot, imagegen):
    """`--deadline` counts from now; the old one is long over."""
    await lot.park(1, expiration_s="1")
    await imagegen("replay", "--all", "--deadline", "30")
    assert (await lot.request()).expiration == 30.0


async def test_what_does_not_fit_stays_parked(lot, imagegen):
    """A full queue refuses: the copy stays, the exit code says try again."""
    await lot.park(1)
    await lot.park(2)
    await lot.fill()
    refused = await imagegen("replay", "--all")
    assert refused.returncode == 75
    assert "The queue is full" in refused.stdout
    assert await lot.ids() == ["copy-1", "copy-2"]


async def test_replay_of_all_ends_though_a_request_comes_back(broker, lot, serve, imagegen):
    """What is parked again at once is not replayed for ever; it is drawn by nobody."""
    service = await asyncio.to_thread(serve().wait_ready)
    await lot.park(1, reply_to=PARKING)
    done = await imagegen("replay", "--all")
    assert (done.returncode, done.stdout) == (0, "copy-1 replayed\n")
    await asyncio.to_thread(service.wait, "settled", outcome="unanswerable")
    (again,) = await lot.ids()
    assert again != "copy-1"


async def test_a_poisoned_request_is_drawn_after_all(
    broker, channel, lot, serve, imagegen, tmp_path
):
    """Parked by the service as poison, replayed by hand: a picture, for the caller that waits."""
    service = await asyncio.to_thread(serve().wait_ready)
    requester = await Requester(channel).start()
    prompt = f"die=3 lives={tmp_path / 'lives'}"
    body = {"prompt": prompt, "width": 256, "height": 256}
    for code in ("gpu_died", "poison"):
        first = await requester.ask(body, message_id="killer")
        assert first["error"]["code"] == code
    await asyncio.to_thread(service.wait, "settled", outcome="poison")
    assert (await imagegen("replay", "--all")).returncode == 0
    second = json.loads((await requester.reply()).body)
    assert second["success"]
    assert second["job_id"] != first["job_id"]
    assert await lot.ids() == []


# ---------------------------------------------------------------- drop


async def test_drop_throws_away_what_is_named(lot, imagegen):
    """By the copy's id or the job's; the rest stays."""
    for number in range(4):
        await lot.park(number)
    done = await imagegen("drop", "copy-1", "job-2", "--yes")
    assert (done.returncode, done.stdout) == (0, "copy-1 dropped\ncopy-2 dropped\n")
    assert await lot.ids() == ["copy-0", "copy-3"]


async def test_drop_asks_first(lot, imagegen):
    """Without a yes nothing is thrown away."""
    await lot.park(1)
    refused = await imagegen("drop", "--all", stdin="n\n")
    assert refused.returncode == 1
    assert (await imagegen("drop", "--all", stdin="y\n")).returncode == 0
    assert await lot.ids() == []


@pytest.mark.parametrize("command", [["replay"], ["drop", "--yes"]], ids=" ".join)
async def test_an_id_that_is_not_parked_is_told(lot, imagegen, command):
    """A misspelt id: exit 1 and its name; nothing happens to the rest."""
    await lot.park(1)
    refused = await imagegen(*command, "copy-2")
    assert (refused.returncode, refused.stdout) == (1, "copy-2 is not parked.\n")
    assert await lot.ids() == ["copy-1"]


@pytest.mark.parametrize("arguments", [[], ["x", "--all"]], ids=["neither", "both"])
async def test_ids_and_all_exclude_each_other(imagegen, arguments):
    """What is meant must be said, once."""
    refused = await imagegen("drop", *arguments)
    assert refused.returncode == 2
    assert "Give ids, or --all." in refused.stderr


async def test_a_user_without_the_right_is_told_which(lot, imagegen):
    """A sentence with the right that is missing, not a traceback."""
    refused = await imagegen("list", user="chat-backend")
    assert refused.returncode == 69
    assert "right to read imagegen.parking" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_broker_that_is_away_exits_69(imagegen, unused_tcp_port):
    """No broker: a sentence and the exit code for what is unavailable."""
    refused = await imagegen("list", "--url", f"amqp://a:b@127.0.0.1:{unused_tcp_port}/x")
    assert refused.returncode == 69
    assert refused.stderr.startswith("The parking queue is out of reach: ")


# ---------------------------------------------------------------- hostile copies


def _park_as_a_stranger(url, **properties):
    """Whoever may write to the default exchange may put anything into the queue."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish(
            "",
            PARKING,
            b'{"prompt": "x"}',
            pika.BasicProperties(**{"message_id": "strange", **properties}),
        )


@pytest.mark.parametrize(
    "properties",
    [{"timestamp": 2**63 - 1}, {"correlation_id": b"\xff\xfe"}],
    ids=["timestamp", "correlation id"],
)
async def test_what_cannot_be_decoded_is_listed_and_dropped(broker, lot, imagegen, properties):
    """A strange message stops neither the look at those behind it nor its own end."""
    await asyncio.to_thread(_park_as_a_stranger, broker.url(), **properties)
    await lot.park(1)
    shown = await imagegen("list", "--json")
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 2), shown.stderr
    assert (await imagegen("drop", "--all", "--yes")).returncode == 0
    assert await lot.ids() == []


@pytest.mark.parametrize(
    "header", [{"expiration-s": "abc"}, {"type": "t" * 300}], ids=["expiration", "type"]
)
async def test_what_is_no_request_is_told_and_the_rest_is_replayed(
    broker, lot, imagegen, header
):
    """A copy that cannot be published stays and costs exit 1, not the copies behind it."""
    headers = {f"x-imagegen-{name}": value for name, value in header.items()}
    await asyncio.to_thread(_park_as_a_stranger, broker.url(), headers=headers)
    await lot.park(1)
    done = await imagegen("replay", "--all")
    assert "strange is no request that can be published" in done.stdout
    assert (done.returncode, "copy-1 replayed" in done.stdout) == (1, True), done.stderr
    assert (await lot.request()).message_id == "job-1"
    assert await lot.ids() == ["strange"]


# ---------------------------------------------------------------- no queue to park in


async def test_what_cannot_be_parked_is_kept_and_told(serve, broker, channel):
    """Health says what is missing while the request waits in hand; once it is there, all is well."""
    service = serve().wait_ready()
    queue = "queues/imagegen/imagegen.parking"
    await asyncio.to_thread(broker.api, queue, "DELETE")
    message = aio_pika.Message(b"no request", delivery_mode=2)
    await channel.default_exchange.publish(message, "imagegen.requests")
    await asyncio.to_thread(service.wait, "parking_impossible", end="returned")
    page = await asyncio.to_thread(_until, service, "unparked")
    assert (page["status"], page["ready"], page["work"]["in_hand"]) == ("warn", True, 1)
    assert "create the queue imagegen.parking" in page["note"]
    made = {"durable": True, "arguments": {"x-queue-type": "classic"}}
    await asyncio.to_thread(broker.api, queue, "PUT", made)
    await asyncio.to_thread(service.wait, "settled", outcome="unanswerable")
    await asyncio.to_thread(_until, service, "ready")
    taken = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
    (parked,) = await asyncio.to_thread(broker.api, f"{queue}/get", "POST", taken)
    assert parked["payload"] == "no request"


def _until(service, state):
    """Return the health page of this state; the pages are made anew four times a second."""
    while (page := service.health())["state"] != state:
        pass
    return page
