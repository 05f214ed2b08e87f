"""The life of a job over HTTP: asked for, followed from queued to its end, fetched, called off, listed."""

import asyncio
import base64
import hashlib
import io
import json
from datetime import datetime

import aio_pika
import pytest
from PIL import Image

from consumer.store import Store
from imagegen_client import Cancelled, ImageClient
from schemas.http import Accepted
from schemas.status import JobList, JobStatus
from tests import asking
from tests.asking import SMALL, held, name, problem
from tests.storing import Clock

gate = asking.gate
house, service, caller = asking.house, asking.service, asking.caller


# ---------------------------------------------------------------- from queued to succeeded


async def test_who_asks_without_waiting_is_told_where_to_look(caller):
    """202 names the job and its pages, each of which is there."""
    job_id = name()
    answer = await caller.submit(job_id=job_id)
    accepted = Accepted.model_validate_json(answer.content)
    assert (answer.status_code, answer.headers["location"]) == (202, f"/job/{job_id}")
    assert (accepted.job_id, accepted.status) == (job_id, "queued")
    await caller.ended(job_id)
    for path in (accepted.status_url, accepted.result_url, accepted.image_url):
        assert (await caller.get(path)).status_code == 200
    assert accepted.events_url == f"/job/{job_id}/events"


async def test_a_job_is_followed_step_by_step(caller, gate):
    """The events tell queued, running, every change of the step and the end, and then cease."""
    job_id = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await caller.until(job_id, lambda job: job["step"] == 1)
    async with caller.events(job_id) as events:
        first = await anext(events)
        gate.open()
        later = [event async for event in events]
    assert (first["id"], first["event"]) == ("1", "running")
    assert (first["data"]["step"], first["data"]["steps"]) == (1, 8)
    assert [event["id"] for event in later] == [str(n + 2) for n in range(len(later))]
    assert later[-1]["event"] == "succeeded"
    assert {event["event"] for event in later[:-1]} <= {"step"}
    steps = [event["data"]["step"] for event in [first, *later]]
    assert steps == sorted(steps)
    assert steps[-1] == 8
    for event in [first, *later]:
        JobStatus.model_validate_json(json.dumps(event["data"]))


async def test_the_status_of_a_picture_that_is_there(caller):
    """A job that succeeded tells what was drawn, how long it took, and where it is."""
    body = {"prompt": "A sunset", "seed": 9, "output_format": "webp", **SMALL}
    job_id = await caller.submitted(body, x_deadline_seconds="100")
    job = await caller.ended(job_id)
    assert (job["status"], job["prompt"], job["seed"]) == ("succeeded", "A sunset", 9)
    assert (job["width"], job["height"], job["format"]) == (256, 256, "webp")
    assert (job["step"], job["steps"], job["attempt"]) == (8, 8, 1)
    assert (job["worker"], job["error"], job["position"]) == ("tester", None, None)
    assert (job["result_pruned"], job["image_url"]) == (False, f"/job/{job_id}/image")
    queued, started, ended, deadline = (
        datetime.fromisoformat(job[f"{what}_at"])
        for what in ("queued", "started", "ended", "deadline")
    )
    assert queued <= started <= ended < deadline
    assert 99 <= (deadline - queued).total_seconds() <= 101


async def test_the_result_is_that_of_the_contract(caller):
    """`/result` is the reply with the picture, `/image` the same bytes."""
    job_id = await caller.submitted({"prompt": "x", "output_format": "webp", **SMALL})
    await caller.ended(job_id)
    result = (await caller.get(f"/job/{job_id}/result")).json()
    image = await caller.get(f"/job/{job_id}/image")
    assert (result["success"], result["format"]) == (True, "webp")
    assert base64.b64decode(result["image_base64"]) == image.content
    assert hashlib.sha256(image.content).hexdigest() == result["sha256"]
    assert image.headers["content-type"] == "image/webp"
    assert image.headers["x-imagegen-sha256"] == result["sha256"]
    assert Image.open(io.BytesIO(image.content)).format == "WEBP"


async def test_a_picture_is_kept_by_its_tag(caller):
    """The picture never changes: it may be kept, and who has it is not sent it again."""
    job_id = await caller.submitted()
    await caller.ended(job_id)
    first = await caller.get(f"/job/{job_id}/image")
    tag = f'"{hashlib.sha256(first.content).hexdigest()}"'
    assert first.headers["etag"] == tag
    assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
    for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await caller.get(f"/job/{job_id}/image", if_none_match=named)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = await caller.get(f"/job/{job_id}/image", if_none_match='"other"')
    assert (other.status_code, other.content) == (200, first.content)


async def test_a_picture_comes_as_it_was_drawn_or_not_at_all(caller):
    """Who takes no PNG is told that there is nothing else; who takes no JSON gets no result."""
    job_id = await caller.submitted()
    await caller.ended(job_id)
    for accept in ("image/*", "image/png", "*/*", "text/html, */*;q=0.1"):
        assert (await caller.get(f"/job/{job_id}/image", accept=accept)).status_code == 200
    refused = await caller.get(f"/job/{job_id}/image", accept="image/webp")
    problem(refused, 406, "not_acceptable")
    refused = await caller.get(f"/job/{job_id}/result", accept="image/png")
    problem(refused, 406, "not_acceptable")


async def test_the_head_of_a_page_is_that_of_its_body(caller):
    """HEAD tells type and length of what GET would give, and gives nothing."""
    job_id = await caller.submitted()
    await caller.ended(job_id)
    for page in ("", "/result", "/image", "/events"):
        head = await caller.http.head(f"/job/{job_id}{page}")
        body = await caller.get(f"/job/{job_id}{page}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == body.headers["content-type"]
        assert head.headers.get("content-length") == body.headers.get("content-length")


async def test_the_head_of_events_holds_nobody_up(caller, gate):
    """HEAD of a job that runs ends at once and takes no place: there is nothing to follow."""
    job_id = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    for _ in range(2):
        # The second one comes on the same connection, once the first is over.
        head = await caller.http.head(f"/job/{job_id}/events")
        assert head.headers["content-type"].startswith("text/event-stream")
    assert await caller.counted("imagegen_http_waiting") == 0
    gate.open()
    await caller.ended(job_id)


# ---------------------------------------------------------------- in the queue


async def test_a_queue_is_a_line(caller, gate):
    """Who waits has a place, one behind the other, and a wait that grows with it."""
    # A size that no other test draws: eight steps of 0.25 s each.
    slow = {"prompt": "slow", "width": 320, "height": 320}
    await caller.generate(slow)
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    line = [await caller.submitted(slow) for _ in range(3)]
    places = [
        await caller.until(job_id, lambda job, place=place: job["position"] == place)
        for place, job_id in enumerate(line, 1)
    ]
    assert [job["status"] for job in places] == ["queued"] * 3
    waits = [job["estimated_wait"] for job in places]
    assert waits[0] < waits[1] < waits[2]
    assert waits[2] - waits[1] > 1.9
    assert (await caller.status(first))["position"] is None
    assert places[0]["started_at"] is places[0]["worker"] is places[0]["step"] is None
    for job_id in line:
        assert (await caller.cancel(job_id)).status_code == 200
    gate.open()
    await caller.ended(first)


async def test_a_place_moves_up_with_an_event(caller, gate):
    """Who follows a job that waits is told when it is nearer to its turn."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    second, third = await caller.submitted(held(gate)), await caller.submitted()
    await caller.until(third, lambda job: job["position"] == 2)
    async with caller.events(third) as events:
        assert (await anext(events))["data"]["position"] == 2
        gate.open()
        moved = await anext(events)
        assert (moved["event"], moved["data"]["position"]) == ("queued", 1)
        await asyncio.to_thread(gate.reached)
        gate.open()
        assert [event["event"] async for event in events][-1] == "succeeded"
    assert (await caller.status(second))["status"] == "succeeded"
    assert (await caller.status(first))["status"] == "succeeded"


async def test_what_is_not_ready_is_to_be_asked_for_later(caller, gate):
    """While a job is queued or runs there is no result, and Retry-After tells when to look."""
    running = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    queued = await caller.submitted()
    await caller.until(running, lambda job: job["status"] == "running")
    for job_id, state in ((running, "running"), (queued, "queued")):
        for page in ("result", "image"):
            answer = await caller.get(f"/job/{job_id}/{page}")
            told = problem(answer, 409, "not_ready")
            assert int(answer.headers["retry-after"]) >= 1
            assert (told["job_id"], told["retryable"]) == (job_id, True)
            assert state in told["detail"]
    gate.open()
    assert (await caller.ended(queued))["status"] == "succeeded"


async def test_a_job_expires_in_the_queue(service, caller, gate):
    """A patience that ends while another picture is drawn ends the job, with a typed error."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    job_id = await caller.submitted(x_deadline_seconds="0.3")
    job = await caller.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("expired", "deadline_exceeded")
    assert (job["attempt"], job["started_at"]) == (0, None)
    assert job["ended_at"] is not None
    problem(await caller.get(f"/job/{job_id}/result"), 504, "deadline_exceeded")
    gate.open()
    await caller.ended(first)
    assert not _started(service, job_id)


# ---------------------------------------------------------------- called off


async def test_a_job_that_waits_is_called_off_at_once(service, caller, gate):
    """A cancel ends a queued job before its turn comes; it is never started."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    job_id = await caller.submitted()
    async with caller.events(job_id) as events:
        assert (await anext(events))["event"] == "queued"
        answer = await caller.cancel(job_id)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert (await anext(events))["event"] == "cancelled"
    problem(await caller.get(f"/job/{job_id}/result"), 409, "cancelled")
    gate.open()
    await caller.ended(first)
    await caller.ended(await caller.submitted())
    assert not _started(service, job_id)


async def test_a_job_that_runs_is_called_off(service, caller, gate):
    """A cancel is accepted, and the picture stops at its next step."""
    job_id = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await caller.until(job_id, lambda job: job["status"] == "running")
    answer = await caller.cancel(job_id)
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    await asyncio.to_thread(service.wait, "stop_requested", job_id=job_id, cause="cancelled")
    gate.open()
    job = await caller.ended(job_id)
    assert (job["status"], job["error"]["code"]) == ("cancelled", "cancelled")
    again = await caller.cancel(job_id)
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_a_caller_who_waits_is_told_of_a_cancel(service, caller, gate):
    """Somebody else's cancel ends the blocking call with a typed error."""
    job_id = name()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(caller.generate(held(gate), job_id))
        await asyncio.to_thread(gate.reached)
        await caller.cancel(job_id)
        await asyncio.to_thread(service.wait, "stop_requested", job_id=job_id)
        gate.open()
    told = problem(waiting.result(), 409, "cancelled")
    assert (told["job_id"], told["retryable"]) == (job_id, False)
    assert "Retry-After" not in waiting.result().headers


async def test_an_end_is_not_called_off(caller):
    """A cancel of what has ended changes nothing and says how it ended."""
    job_id = await caller.submitted()
    await caller.ended(job_id)
    answer = await caller.cancel(job_id)
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert (await caller.get(f"/job/{job_id}/image")).status_code == 200


def _started(service, job_id):
    return [
        record
        for record in service.records
        if record["event"] == "started" and record["job_id"] == job_id
    ]


# ---------------------------------------------------------------- asked again


async def test_who_asks_again_is_told_where_it_stands(caller, gate):
    """The same key is the same job: queued, running or there, and never a second one."""
    body, job_id = held(gate), name()
    await caller.submitted(body, job_id)
    await asyncio.to_thread(gate.reached)
    await caller.until(job_id, lambda job: job["status"] == "running")
    assert (await caller.submit(body, job_id)).json()["status"] == "running"
    waiting = name()
    states = [(await caller.submit(job_id=waiting)).json()["status"] for _ in range(2)]
    assert states == ["queued", "queued"]
    gate.open()
    await caller.ended(waiting)
    assert (await caller.submit(body, job_id)).json()["status"] == "succeeded"
    assert (await caller.status(job_id))["attempt"] == 1
    assert (await caller.status(waiting))["attempt"] == 1


async def test_what_was_called_off_stays_so(caller, gate):
    """The key of a cancelled job is spent; asked for again, it says so at once."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    job_id = await caller.submitted()
    await caller.cancel(job_id)
    problem(await caller.submit(job_id=job_id), 409, "cancelled")
    gate.open()
    await caller.ended(first)


@pytest.mark.parametrize(("word", "status"), [("long", 400), ("oom", 202)])
async def test_a_failure_that_may_pass_is_tried_again(caller, word, status):
    """Asked for again, a failure for good is told at once; another one waits for its turn again."""
    body = {"prompt": word, **SMALL}
    job_id = await caller.submitted(body)
    failed = await caller.ended(job_id)
    assert failed["status"] == "failed"
    again = await caller.submit(body, job_id)
    assert again.status_code == status
    job = await caller.ended(job_id)
    assert (job["status"], job["attempt"] > failed["attempt"]) == ("failed", status == 202)


# ---------------------------------------------------------------- what is not there


@pytest.mark.parametrize("page", ["", "/result", "/image", "/events"])
async def test_a_job_that_nobody_knows(caller, page):
    """An unknown id is 404, and one that cannot be one is 400."""
    told = problem(await caller.get(f"/job/nobody-knows-it{page}"), 404, "not_found")
    assert told["job_id"] == "nobody-knows-it"
    told = problem(await caller.get(f"/job/no%20id{page}"), 400, "invalid_request")
    assert [detail["field"] for detail in told["details"]] == ["job_id"]


async def test_nobodys_job_is_not_called_off(caller):
    """There is nothing to cancel under an id that nobody knows."""
    problem(await caller.cancel("nobody-knows-it"), 404, "not_found")
    problem(await caller.cancel("no%20id"), 400, "invalid_request")


# ---------------------------------------------------------------- the list


async def test_the_list_is_newest_first_and_goes_on(caller):
    """Pages of a list continue each other, without a gap and without a job told twice."""
    made = [await caller.submitted() for _ in range(5)]
    await caller.ended(made[-1])
    seen, before = [], ""
    while made[0] not in seen:
        page = JobList.model_validate_json((await caller.get(f"/jobs?limit=2{before}")).content)
        assert len(page.jobs) == 2
        seen += [job.job_id for job in page.jobs]
        before = f"&before={page.next}"
    assert [job_id for job_id in seen if job_id in made] == made[::-1]
    assert len(seen) == len(set(seen))


async def test_the_list_ends(caller):
    """The last page names no next one."""
    await caller.ended(await caller.submitted())
    page = (await caller.get("/jobs?limit=200")).json()
    assert 0 < len(page["jobs"]) < 200
    assert page["next"] is None


async def test_the_list_is_sorted_out_by_state(caller, gate):
    """Each state has its own list, and a job is in the one that its status says."""
    running = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    await caller.until(running, lambda job: job["status"] == "running")
    # First in the queue: the broker looks at the patience of no other.
    expired = await caller.submitted(x_deadline_seconds="0.3")
    await caller.ended(expired)
    queued, cancelled = [await caller.submitted() for _ in range(2)]
    await caller.cancel(cancelled)
    expected = {
        "running": running,
        "queued": queued,
        "cancelled": cancelled,
        "expired": expired,
    }
    for state, job_id in expected.items():
        jobs = (await caller.get(f"/jobs?status={state}")).json()["jobs"]
        assert jobs[0]["job_id"] == job_id
        assert {job["status"] for job in jobs} == {state}
    gate.open()
    await caller.ended(queued)
    jobs = (await caller.get("/jobs?status=succeeded")).json()["jobs"]
    assert {running, queued} <= {job["job_id"] for job in jobs}
    failed = await caller.submitted({"prompt": "boom", **SMALL})
    await caller.ended(failed)
    jobs = (await caller.get("/jobs?status=failed")).json()["jobs"]
    assert jobs[0]["job_id"] == failed


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("status=new", "status"),
        ("status=", "status"),
        ("before=yesterday", "before"),
        ("before=1.a%0A", "before"),
        ("offset=3", "offset"),
        ("limit=1&limit=2", "query"),
    ],
)
async def test_a_bad_parameter_is_named(caller, query, field):
    """What cannot be listed is refused by the name of the parameter."""
    told = problem(await caller.get(f"/jobs?{query}"), 400, "invalid_request")
    assert [detail["field"] for detail in told["details"]] == [field]


# ---------------------------------------------------------------- those of others


async def test_a_job_that_came_over_amqp_is_seen(broker, caller):
    """What a chat backend had drawn has its status, its place in the list, and its picture."""
    async with ImageClient(broker.url()) as client:
        image = await client.generate("over AMQP", job_id="amqp-1", **SMALL)
    job = await caller.status("amqp-1")
    assert (job["status"], job["prompt"]) == ("succeeded", "over AMQP")
    assert (await caller.get("/job/amqp-1/image")).content == image.data
    # AMQP tells the second of a publish: of those in the same one this may not be the newest.
    jobs = (await caller.get("/jobs?limit=50")).json()["jobs"]
    assert "amqp-1" in {job["job_id"] for job in jobs}


async def test_a_job_that_came_over_amqp_is_called_off(service, broker, caller, gate):
    """The HTTP face's user may call off any job, and who waits for it is told."""
    async with (
        ImageClient(broker.url()) as client,
        client.submit(f"wait={gate.path}", job_id="amqp-2", **SMALL) as job,
    ):
        await asyncio.to_thread(gate.reached)
        assert (await caller.cancel("amqp-2")).status_code == 202
        await asyncio.to_thread(service.wait, "stop_requested", job_id="amqp-2")
        gate.open()
        with pytest.raises(Cancelled):
            await job.result()


async def test_what_waits_unseen_counts_for_the_place(caller, channel, gate):
    """Requests that came over AMQP and were not taken yet stand in front: a place is never too low."""
    first = await caller.submitted(held(gate))
    await asyncio.to_thread(gate.reached)
    exchange = await channel.get_exchange("imagegen", ensure=False)
    for _ in range(2):
        body = json.dumps({"prompt": "x", **SMALL}).encode()
        message = aio_pika.Message(body, message_id=name())
        await exchange.publish(message, "imagegen.requests")
    job_id = await caller.submitted()
    await caller.until(job_id, lambda job: job["position"] == 3)
    gate.open()
    await caller.ended(job_id)
    await caller.ended(first)


# ---------------------------------------------------------------- what lasts


async def test_a_result_that_was_removed_is_gone(house, caller, gate):
    """A pruned picture is 410, and its job still tells how it ended; both without the prompt."""
    done = await caller.submitted()
    failed = await caller.submitted({"prompt": "boom", **SMALL})
    await caller.ended(done)
    await caller.ended(failed)
    await _prune(house)
    for job_id, state in ((done, "succeeded"), (failed, "failed")):
        job = await caller.status(job_id)
        assert (job["status"], job["result_pruned"], job["prompt"]) == (state, True, None)
        assert job["image_url"] is job["result_url"] is None
        for page in ("result", "image"):
            told = problem(await caller.get(f"/job/{job_id}/{page}"), 410, "gone")
            assert told["job_id"] == job_id
        assert (await caller.cancel(job_id)).status_code == 200
    assert done not in {
        job["job_id"] for job in (await caller.get("/jobs?limit=200")).json()["jobs"]
    }


async def test_a_key_whose_result_was_removed_is_drawn_again(house, caller):
    """Asked for again under its old key, a removed picture is drawn anew, and is there."""
    job_id = await caller.submitted()
    first = await caller.ended(job_id)
    await _prune(house)
    assert (await caller.submit(job_id=job_id)).json()["status"] == "queued"
    again = await caller.ended(job_id)
    assert (again["status"], again["result_pruned"]) == ("succeeded", False)
    assert again["seed"] == first["seed"]
    assert (await caller.get(f"/job/{job_id}/image")).status_code == 200


async def _prune(house):
    """Remove what has ended, as a service does a week later."""
    clock = Clock()
    clock.passes(7200)
    store = Store(house._settings["STORE_URL"], "pruner", clock=clock)
    await store.prune(ttl_s=3600, max_bytes=2**30)
    await store.close()
