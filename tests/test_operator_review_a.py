"""What health said that was not so: each defect of a review, held by a service that would show it."""

import asyncio
import json
import os
import signal
import socket
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from consumer import depth
from consumer.checks import checks
from consumer.depth import Gauge
from consumer.dials import delivery_facts, public
from consumer.forecast import Depth
from consumer.gpu.child import Child, Ears
from consumer.gpu.devices import EVERY_S, Address, Devices, Seen
from consumer.gpu.pace import Pace
from consumer.gpu.picture import GpuTimeoutError, Picture
from consumer.gpu.protocol import Done, encode
from consumer.gpu.reading import Reading
from consumer.health import LOOP_STALL_S, Health, Phase, Snapshot
from consumer.http.probes import health_page
from tests.drawing import command, ignore, limits, load
from tests.pipelines import ready
from tests.rpc import Requester
from tests.test_health import NO_OUTLOOK
from tests.test_health_page import NOON, SMALL

CARD = Address("rocm 7.2", "0000:03:00.0")
BUSY = Reading("sysfs", busy_percent=97)


class Fetched:
    """A pipeline that tells where it finds its model."""

    def load(self, command, note):
        note(f"loading Fetched from {command.data_dir}/models/fetched-1")
        return ready(command)

    def draw(self, command, on_step):
        raise NotImplementedError


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


@pytest.fixture
def faults(tmp_path):
    """The words that go for every picture and every load."""
    path = tmp_path / "data" / "faults"
    path.parent.mkdir()
    return path


# ---------------------------------------------------------------- the sentence


async def test_a_broken_gpu_is_not_told_to_be_loaded(serve, requester, faults):
    """While only test pictures are drawn the note says what failed, not what the child says last."""
    service = serve(CANARY_EVERY_S=1, DEFUNCT_EXIT_S=600).wait_ready()
    faults.write_text("nan")
    for number in range(3):
        await requester.publish({"prompt": "x", **SMALL}, message_id=f"job-{number}")
    await asyncio.to_thread(service.wait, "gpu", state="defunct")
    loaded = "scripted is loaded on CPU"
    await asyncio.to_thread(service.wait, "gpu", state="defunct", note=loaded)
    page = service.health()
    assert (page["status"], page["state"], page["ready"]) == ("fail", "failed", False)
    assert loaded not in page["note"]
    assert "failures in a row, the last: the picture of job" in page["note"]
    assert "failed with nan_output" in page["note"]
    faults.unlink()
    assert await asyncio.to_thread(service.wait_idle)


async def test_nobody_is_told_a_wait_while_nobody_takes_requests(serve, requester, faults):
    """What the last picture took says nothing of when the next one will be begun."""
    service = serve(CANARY_EVERY_S=3600, DEFUNCT_EXIT_S=7200).wait_ready()
    assert (await requester.ask({"prompt": "x", **SMALL}))["success"]
    faults.write_text("nan")
    for number in range(3):
        await requester.publish({"prompt": "x", **SMALL}, message_id=f"job-{number}")
    await asyncio.to_thread(service.wait, "gpu", state="defunct")
    queue = service.health()["queue"]
    while queue["consumers"] != 0:
        queue = service.health()["queue"]
    assert queue["estimated_wait_s"] is None


async def test_a_child_that_cannot_load_again_is_heard(serve, requester, faults, tmp_path):
    """Why it cannot, with the remedy, is in its own words; an exit code tells nobody anything."""
    service = serve().wait_ready()
    faults.write_text("refuse_loading")
    prompt = f"die_once={tmp_path / 'mark'}"
    await requester.publish({"prompt": prompt, **SMALL}, message_id="dead")
    words = "the GPU process does not load: The model does not fit. Set IMAGE_GEN_MEMORY=low"
    await asyncio.to_thread(service.wait, "gpu", state="dead", note=words)
    page = service.health()
    assert (page["state"], page["ready"]) == ("loading", False)
    assert page["note"].endswith(f"{words}.")
    faults.unlink()
    assert json.loads((await requester.reply()).body)["success"]


def test_the_page_tells_neither_folders_nor_users():
    """It asks for no token; the log, which is the operator's own, has them."""
    told = public("loading X from /home/joe/models/x-1 (amqp://joe:secret@h/v)\n\tIs it there?")
    assert told == "loading X from …/x-1 (amqp://h/v) Is it there?"
    harmless = "Tongyi-MAI/Z-Image-Turbo at https://hf.co/a/b is away, 3/4 done, 2 it/s"
    assert public(harmless) == harmless
    assert public(None) is None


async def test_where_the_model_lies_is_told_in_the_log_only(serve, tmp_path):
    """A service that loads says what it loads on its page, and where from to its log."""
    service = serve(
        PIPELINE="tests.test_operator_review_a:Fetched", AMQP_URL="amqp://a:b@127.0.0.1:1/"
    )
    folder = f"{tmp_path / 'data'}/models/fetched-1"
    pages = []
    while not pages or pages[-1]["state"] == "loading":
        pages.append(service.health())
    notes = "".join(page["note"] for page in pages)
    service.wait("gpu", note=f"loading Fetched from {folder}")
    assert str(tmp_path) not in json.dumps(pages)
    assert "No broker" in notes


@pytest.mark.parametrize(
    ("change", "name", "status", "output"),
    [
        ({"queue": {"waiting": 20}}, "queue:ready", "warn", "The queue is full"),
        ({"queue": {"waiting": None}}, "queue:ready", "warn", "does not tell"),
        ({"broker": {"blocked": True}}, "broker:connected", "warn", "short of memory or disk"),
        ({"broker": {"connected": False}}, "broker:connected", "fail", "dialling"),
        (
            {"broker": {"connected": False, "problem": "refused"}},
            "broker:connected",
            "fail",
            "refused",
        ),
    ],
    ids=str,
)
async def test_a_check_that_does_not_pass_says_why(service, change, name, status, output):
    """Who reads one check of the page, and not its note, is told as well."""
    page = service.health()
    for part, facts in change.items():
        page[part] |= facts
    (told,) = checks(page, page["time"])[name]
    assert told["status"] == status
    assert output in told["output"]


# ---------------------------------------------------------------- whose hang it is


async def test_a_hang_is_that_of_the_pixels_that_do_not_arrive():
    """The next picture is silent because the last one is on its way: that one is told, and why."""
    at_once = limits(job_timeout_s=0.5)
    loop = asyncio.get_running_loop()
    heard = asyncio.Queue()
    ears = Ears(
        heard.put_nowait, heard.put_nowait, lambda *_: heard.put_nowait(_), heard.put_nowait
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    child = Child(process, ours, ears, Pace(at_once), at_once)
    first, second = (
        Picture(command(job_id=name), ignore, lambda: None, loop.create_future())
        for name in ("first", "second")
    )
    with theirs:
        serving = loop.create_task(child.serve())
        theirs.sendall(encode(ready(load())))
        await heard.get()
        child.submit(first)
        done = Done("first", 64, 48, 8, {}, {})
        theirs.sendall(encode(done, 64 * 48 * 3))
        await heard.get()
        child.submit(second)
        hang = await heard.get()
        await serving
    assert (hang.job_id, hang.stage, hang.since) == ("first", "handover", first.ended)
    assert "pixels did not arrive" in hang.note
    for picture in (first, second):
        with pytest.raises(GpuTimeoutError, match="pixels did not arrive"):
            await picture.frame


# ---------------------------------------------------------------- a page that is late


def test_a_page_that_stands_still_is_not_ready():
    """Who looks at `ready` alone is not told yes by a snapshot of better days."""
    health = Health("pass", "ready", "Taking requests.", ready=True)
    page = {"ready": True, "checks": {}}
    snapshot = Snapshot(health, page, Phase.RUNNING, NO_OUTLOOK, beat=100.0)
    assert health_page(snapshot, 100.0)["ready"] is True
    late = health_page(snapshot, 100.0 + LOOP_STALL_S)
    assert (late["status"], late["state"], late["ready"]) == ("fail", "failed", False)


async def test_a_service_that_only_stops_says_so(service):
    """With nothing in hand it does not finish work: it waits for a GPU process that does not go."""
    child = service.health()["gpu"]["pid"]
    os.kill(child, signal.SIGSTOP)
    service.signal(signal.SIGTERM)
    page = service.health()
    while page["state"] in {"ready", "draining"}:
        page = service.health()
    assert (page["status"], page["state"], page["ready"]) == ("fail", "stopping", False)
    assert page["note"] == "The service stops."
    assert service.end() == 0


# ---------------------------------------------------------------- what is in hand


async def test_the_oldest_in_hand_is_a_delivery(service, requester, gate, channel):
    """Its age is since its receipt, and it is told until it is settled: drawn is not answered."""
    full = {"x-max-length": 0, "x-overflow": "reject-publish"}
    queue = await channel.declare_queue("", exclusive=True, arguments=full)
    before = datetime.now(tz=UTC)
    body = {"prompt": f"wait={gate.path}", **SMALL}
    await requester.publish(body, message_id="job-1", reply_to=queue.name)
    await asyncio.to_thread(gate.reached)
    drawn = service.health()
    while (drawn["work"]["oldest"] or {}).get("stage") != "denoise":
        drawn = service.health()
    oldest = drawn["work"]["oldest"]
    assert (oldest["job_id"], oldest["steps"]) == ("job-1", 8)
    assert before < datetime.fromisoformat(oldest["since"]) < datetime.now(tz=UTC)
    gate.open()
    while drawn["gpu"]["drawing"] or not drawn["work"]["last_success"]:
        drawn = service.health()
    # Its caller takes no answer: it is tried again, and the work is in hand as long.
    assert drawn["work"]["in_hand"] == 1
    answering = drawn["work"]["oldest"]
    assert (answering["job_id"], answering["stage"]) == ("job-1", None)
    assert answering["age_s"] > oldest["age_s"]
    await queue.delete()
    assert await asyncio.to_thread(service.wait_idle)
    assert service.health()["work"]["oldest"] is None


def test_a_delivery_without_a_picture_has_its_age():
    """It may be looked up, encoded, written down or answered: that, too, can take too long."""
    told = delivery_facts("job-1", 940.0, None, NOON)
    assert (told["job_id"], told["age_s"], told["stage"]) == ("job-1", 60.0, None)


# ---------------------------------------------------------------- readings that are not there


def test_a_machine_without_a_thread_to_spare_costs_a_reading_only(monkeypatch):
    """Where no thread can be had there is no reading; the next look tries again."""

    def none_left(_):
        raise RuntimeError("can't start new thread")

    now = 1000.0
    devices = Devices(lambda _: BUSY, lambda: now)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        assert devices.look(CARD) == Seen()
    now += EVERY_S
    devices.look(CARD)
    devices._thread.join()
    assert devices.look(CARD) == Seen(BUSY, 0.0)


def test_a_reading_is_as_old_as_its_first_value():
    """A driver that hung in the middle gives a reading whose beginning is of long ago."""
    now, asked, answered = 1000.0, threading.Event(), threading.Event()

    def slow(_):
        asked.set()
        answered.wait()
        return BUSY

    devices = Devices(slow, lambda: now)
    devices.look(CARD)
    asked.wait()
    now += 20.0
    answered.set()
    devices._thread.join()
    assert devices._seen(now) == Seen(BUSY, 20.0)


class Broker:
    """One channel that tells the depth, as long as it is let."""

    def __init__(self):
        self.let = asyncio.Event()
        self.let.set()
        self.consume = self

    async def channel(self, **_):
        return self

    async def declare_queue(self, *_, **__):
        await self.let.wait()
        return SimpleNamespace(
            declaration_result=SimpleNamespace(message_count=3, consumer_count=1)
        )


def session(broker):
    ended = asyncio.get_running_loop().create_future()
    return SimpleNamespace(consume=broker, ended=ended, alive=True)


def lose(one):
    one.alive = False
    one.ended.set_result("lost")


class Followed(Gauge):
    """A gauge whose every reading is kept."""

    def __init__(self, tasks):
        self.readings = asyncio.Queue()
        super().__init__(tasks)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "depth":
            self.readings.put_nowait(value)

    async def until(self, reading):
        async with asyncio.timeout(30):
            while await self.readings.get() != reading:
                pass


async def test_a_depth_that_is_not_told_any_more_is_not_shown(monkeypatch):
    """A broker whose queue does not answer leaves null, not what was true before; until it does."""
    monkeypatch.setattr(depth, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(depth, "ANSWER_S", 0.05)
    broker = Broker()
    async with asyncio.TaskGroup() as tasks:
        gauge, one = Followed(tasks), session(broker)
        await gauge.attach(one)
        await gauge.until(Depth(3, 1))
        broker.let.clear()
        await gauge.until(None)
        broker.let.set()
        await gauge.until(Depth(3, 1))
        lose(one)


async def test_the_end_of_an_old_session_hides_no_depth_of_the_new():
    """The one that asks now knows; the other has nothing to say any more."""
    async with asyncio.TaskGroup() as tasks:
        gauge, old, new = Gauge(tasks), session(Broker()), session(Broker())
        await gauge.attach(old)
        await gauge.attach(new)
        lose(old)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert gauge.depth == Depth(3, 1)
        lose(new)
    assert gauge.depth is None
