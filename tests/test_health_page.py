"""The health page and the probes: what they show, and that they answer when nothing else does."""

import asyncio
import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from consumer.checks import CHECKS
from consumer.dials import Clock, gpu_facts, picture_facts, service_s
from consumer.forecast import Outlook
from consumer.gpu.chart import Chart, Hang
from consumer.gpu.devices import Seen
from consumer.gpu.limits import GpuLimits
from consumer.gpu.pace import Pace
from consumer.gpu.picture import Picture
from consumer.gpu.protocol import Generate, Load, Stage
from consumer.gpu.reading import Reading
from consumer.gpu.watch import SECOND_LOOK_S, Watch
from consumer.service import Service
from consumer.settings import read_settings
from tests.pipelines import ready
from tests.rpc import Requester

SMALL = {"width": 256, "height": 256}
MEASURED = {
    "memory_used_bytes",
    "memory_total_bytes",
    "utilization_ratio",
    "temperature_celsius",
    "power_watts",
    "torch_allocated_bytes",
    "torch_reserved_bytes",
    "torch_peak_bytes",
}
"""What the metrics show of the GPU too, by these names."""
NOON = Clock(1000.0, datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
HANG = Hang("job-1", "denoise", 940.0, 970.0, "nothing heard for 30 s in denoise")
LOADED = ready(Load("x", "scripted", None, "cpu", "auto", "/nowhere"))


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


# ---------------------------------------------------------------- facts


def test_a_card_that_tells_nothing_has_null_for_everything():
    """Whatever cannot be read is there, and null: nobody has to ask whether a key is missing."""
    facts = gpu_facts(None, Seen(), Chart(), NOON)
    assert {name: facts[name] for name in MEASURED} == dict.fromkeys(MEASURED)
    assert facts["reading"] == {"source": None, "age_s": None, "hangs_s": None}
    assert json.loads(json.dumps(facts)) == facts


def test_a_card_is_shown_as_its_driver_and_torch_tell_it():
    """Bytes, a ratio, degrees and watts; torch's own memory beside that of all processes."""
    reading = Reading(
        "sysfs",
        memory_used=3,
        memory_total=8,
        busy_percent=97,
        temperatures={"edge": 61.0, "junction": 84.0},
        power_watts=327.0,
    )
    chart = Chart({"allocated": 1, "reserved": 2, "peak": 4, "total": 9})
    facts = gpu_facts(LOADED, Seen(reading, 1.23), chart, NOON)
    shown = {name: facts[name] for name in MEASURED}
    assert shown == {
        "memory_used_bytes": 3,
        "memory_total_bytes": 8,
        "utilization_ratio": 0.97,
        "temperature_celsius": 84.0,
        "power_watts": 327.0,
        "torch_allocated_bytes": 1,
        "torch_reserved_bytes": 2,
        "torch_peak_bytes": 4,
    }
    assert facts["reading"] == {"source": "sysfs", "age_s": 1.2, "hangs_s": None}


def test_a_hang_is_shown_with_its_job_and_since_when():
    """The silence began when the child was last heard of, by the clock on the wall."""
    chart = Chart()
    chart.hung(HANG)
    told = gpu_facts(LOADED, Seen(), chart, NOON)["hang"]
    assert (told["job_id"], told["stage"]) == ("job-1", "denoise")
    assert told["since"] == "2026-11-22T11:59:00.000+00:00"
    assert told["found"] == "2026-11-22T11:59:30.000+00:00"
    chart.renewed({})
    facts = gpu_facts(LOADED, Seen(), chart, NOON)
    assert (facts["hang"], facts["last_hang"]) == (None, told)


async def test_a_picture_that_waits_has_no_stage_yet():
    """The oldest in hand may be one that the GPU has not begun."""
    frame = asyncio.get_running_loop().create_future()
    command = Generate("job-1", "x", 256, 256, 7, 8, 0.0)
    picture = Picture(command, lambda *_: None, lambda: None, frame, asked=990.0)
    told = picture_facts(picture, NOON)
    assert (told["job_id"], told["age_s"], told["stage"]) == ("job-1", 10.0, "waiting")
    assert told["silent_s"] is None
    picture.start(995.0)
    picture.enter(Stage.DENOISE, 998.0)
    told = picture_facts(picture, NOON)
    assert (told["age_s"], told["stage"], told["silent_s"]) == (10.0, "denoise", 2.0)


def test_the_service_time_is_told_by_size():
    """Of each size that was drawn here: the first step, the others, and the decode."""
    pace = Pace(GpuLimits())
    for stage, seconds in (
        (Stage.TEXT_ENCODE, 0.5),
        (Stage.DENOISE, 0.25),
        (Stage.VAE_DECODE, 0.5),
    ):
        pace.learn((512, 512), stage, seconds)
    pace.learn((1024, 1024), Stage.TEXT_ENCODE, 1.0)
    assert service_s(Outlook(None, pace, (1024, 1024, 8))) == {"512x512": 2.75}


async def test_the_watch_tells_when_its_verdict_is_due():
    """From outside one sees by when a child must have been heard of, or called hung."""
    loop = asyncio.get_running_loop()
    watch = Watch(Pace(GpuLimits(job_timeout_s=60)), GpuLimits(job_timeout_s=60), print)
    assert watch.due is None
    command = Generate("job-1", "x", 256, 256, 7, 8, 0.0)
    picture = Picture(command, lambda *_: None, lambda: None, loop.create_future())
    picture.start(loop.time())
    watch.drawing(picture, None, cold=False)
    assert watch.due == picture.started + 60 + SECOND_LOOK_S
    watch.rest()
    assert watch.due is None


# ---------------------------------------------------------------- a service


async def test_the_page_has_the_shape_of_health_json(serve, requester):
    """A status, and for every fact a list of checks with what was observed, and when."""
    service = serve().wait_ready()
    await requester.ask({"prompt": "x", **SMALL})
    await asyncio.to_thread(service.wait_idle)
    status, headers, body = service.get("/health")
    page = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/health+json")
    assert (page["status"], page["serviceId"], page["notes"]) == (
        "pass",
        "tester",
        [page["note"]],
    )
    assert set(page["checks"]) == {check.name for check in CHECKS} | {"loop:last_seen"}
    (told,) = zip(*page["checks"].values(), strict=True)
    assert all("observedValue" in check for check in told)
    assert {check.get("status", "pass") for check in told} == {"pass"}


async def test_the_page_tells_the_work_done_and_in_hand(serve, requester, gate):
    """The oldest in hand, the last success, and what a picture of a size takes here."""
    service = serve(MAX_CONCURRENT=2).wait_ready()
    assert service.health()["work"]["service_s"] == {}
    await requester.ask({"prompt": "x", **SMALL})
    while service.health()["work"]["in_hand"]:
        pass  # an answer is out before its delivery is settled
    await requester.publish({"prompt": f"wait={gate.path}", **SMALL}, message_id="first")
    await asyncio.to_thread(gate.reached)
    await requester.publish({"prompt": "x", **SMALL}, message_id="second")
    work = service.health()["work"]
    while work["in_hand"] < 2:
        work = service.health()["work"]
    gate.open()
    assert work["oldest"]["job_id"] == "first"
    assert set(work["service_s"]) == {"256x256"}
    assert datetime.fromisoformat(work["last_success"]) < datetime.now(tz=UTC)
    for _ in range(2):
        await requester.reply()


@pytest.mark.parametrize(("source", "bound"), [("setting", 7), ("management_api", 20)])
async def test_the_bound_is_that_of_the_live_queue_where_it_can_be_told(
    serve, broker, source, bound
):
    """20 by the broker's policy, whatever the setting says; the page tells which of them it is."""
    url = broker.node.management_url("monitoring")
    more = {"MANAGEMENT_URL": url} if source == "management_api" else {}
    queue = serve(MAX_QUEUE_SIZE=7, **more).wait_ready().health()["queue"]
    assert (queue["bound_from"], queue["bound"]) == (source, bound)


async def test_reconnects_are_counted(serve, broker):
    """Sessions after the first, not the tries between them."""
    service = serve().wait_ready()
    assert service.health()["broker"]["reconnects"] == 0
    names = []
    while not names:  # the management API lists a connection a moment after it stands
        names = [
            connection["name"]
            for connection in await asyncio.to_thread(broker.api, "connections")
            if connection.get("client_properties", {}).get("connection_name")
            == "tester consume"
        ]
    await asyncio.to_thread(broker.api, f"connections/{quote(names[0], safe='')}", "DELETE")
    await asyncio.to_thread(service.wait, "broker_connected", count=2)
    assert service.health()["broker"]["reconnects"] == 1


async def test_startup_is_over_once_a_model_is_warm(serve, gate, tmp_path, unused_tcp_port):
    """/startupz is 503 until then; a broker that is away is no reason to start anew."""
    faults = tmp_path / "data" / "faults"
    faults.parent.mkdir()
    faults.write_text(f"wait_loading={gate.path}")
    loading = serve()
    await asyncio.to_thread(gate.reached)
    assert (loading.get("/startupz")[0], loading.get("/livez")[0]) == (503, 200)
    gate.open()
    assert loading.wait_ready().get("/startupz")[0] == 200
    faults.unlink()
    alone = serve(AMQP_URL=f"amqp://a:b@127.0.0.1:{unused_tcp_port}/imagegen")
    alone.wait("broker_unreachable")
    assert (alone.get("/startupz")[0], alone.get("/readyz")[0]) == (200, 503)


async def test_a_hang_of_the_gpu_process_is_told_with_its_job(serve, requester, tmp_path):
    """Once the watch calls it, health tells which job and since when, until a child draws again."""
    service = serve(HANG_FLOOR_S=1).wait_ready()
    assert (await requester.ask({"prompt": "x", **SMALL}))["success"]
    faults = tmp_path / "data" / "faults"
    faults.parent.mkdir(exist_ok=True)
    faults.write_text("fail_loading")
    prompt = f"hang_once={tmp_path / 'mark'}"
    published = datetime.now(tz=UTC)
    await requester.publish({"prompt": prompt, **SMALL}, message_id="hung")
    silence = "nothing heard for 1 s in denoise"
    await asyncio.to_thread(
        service.wait, "gpu", note=f"the GPU process hangs in job hung: {silence}"
    )
    page = service.health()
    assert (page["status"], page["ready"]) == ("fail", False)
    assert "hangs in job hung" in page["note"]
    hang = page["gpu"]["hang"]
    assert (hang["job_id"], hang["stage"], hang["note"]) == ("hung", "denoise", silence)
    assert (
        published
        < datetime.fromisoformat(hang["since"])
        < datetime.fromisoformat(hang["found"])
    )
    assert page["checks"]["gpu:state"][0]["status"] == "fail"
    assert service.get("/livez")[0] == 200
    faults.unlink()
    assert json.loads((await requester.reply()).body)["success"]
    gpu = service.health()["gpu"]
    assert (gpu["hang"], gpu["last_hang"]["job_id"]) == (None, "hung")


# ---------------------------------------------------------------- a loop that stands still


def ask(port, page):
    """Ask without a pause for the event loop, which stands still until the answer is there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_probes_answer_while_the_event_loop_stands_still(
    broker, tmp_path, monkeypatch, unused_tcp_port
):
    """They are served by a thread of their own; and once it stands too long, they say so."""
    monkeypatch.setattr("consumer.health.LOOP_STALL_S", 4.0)
    settings = {
        "AMQP_URL": broker.url("imagegen-consumer"),
        "HTTP_AMQP_URL": broker.url("imagegen-http"),
        "PORT": str(unused_tcp_port),
        "DATA_DIR": str(tmp_path / "data"),
        "MODEL": "scripted",
        "PIPELINE": "tests.pipelines:Scripted",
    }
    given = {f"IMAGE_GEN_{name}": value for name, value in settings.items()}
    # In this process and on this event loop: who blocks the one blocks the other.
    service = Service(read_settings(given, tmp_path / "no secrets"))
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(service.run())
        await service._broker.wait_connected()
        while (await asyncio.to_thread(ask, unused_tcp_port, "/readyz"))[0] != 200:
            pass
        # From here to the end of the block nothing awaits: the loop does not turn.
        pages = ("/livez", "/readyz", "/health", "/metrics", "/startupz")
        assert {page: ask(unused_tcp_port, page)[0] for page in pages} == dict.fromkeys(
            pages, 200
        )
        while ask(unused_tcp_port, "/livez")[0] == 200:
            pass
        status, body = ask(unused_tcp_port, "/health")
        ready_status, _ = ask(unused_tcp_port, "/readyz")
        metrics_status, _ = ask(unused_tcp_port, "/metrics")
        service._on_signal()
    page = json.loads(body)
    assert (status, page["status"], page["state"]) == (503, "fail", "failed")
    assert "event loop has stood still" in page["note"]
    assert page["checks"]["loop:last_seen"][0]["status"] == "fail"
    assert (ready_status, metrics_status) == (503, 200)
    assert run.result() == 0
