"""Asking for a picture over HTTP and waiting for it: the picture, its form, its idempotency."""

import asyncio
import base64
import hashlib
import io
import json

import pytest
from PIL import Image

from schemas import GenerationResult
from tests import asking
from tests.asking import SMALL, held, name, problem

gate = asking.gate
house, service, caller = asking.house, asking.service, asking.caller


async def test_a_picture_comes_as_json(caller):
    """The answer is the reply of the contract, with the picture in it."""
    body = {"prompt": "A sunset", "width": 512, "height": 256, "seed": 42}
    answer = await caller.generate(body, "sunset")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    result = GenerationResult.model_validate_json(answer.content)
    image = base64.b64decode(result.image_base64)
    assert (result.job_id, result.seed, result.prompt) == ("sunset", 42, "A sunset")
    assert (result.forwards, result.attempt, result.replayed) == (8, 1, False)
    assert result.sha256 == hashlib.sha256(image).hexdigest()
    assert Image.open(io.BytesIO(image)).size == (512, 256)


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
async def test_a_picture_comes_as_bytes(caller, output_format):
    """Who accepts a picture only gets its bytes, and every fact but the prompt as a header."""
    media_type, job_id = f"image/{output_format}", name()
    body = {"prompt": "日没", "seed": 7, **SMALL}
    answer = await caller.generate(body, job_id, accept=media_type)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert Image.open(io.BytesIO(answer.content)).format == output_format.upper()
    told = {
        name.removeprefix("x-imagegen-"): value
        for name, value in answer.headers.items()
        if name.startswith("x-imagegen-")
    }
    assert json.loads(told.pop("timings")).keys() >= {"queued", "denoise"}
    assert float(told.pop("generation-time")) >= 0
    assert told == {
        "job-id": job_id,
        "width": "256",
        "height": "256",
        "seed": "7",
        "format": output_format,
        "sha256": hashlib.sha256(answer.content).hexdigest(),
        "model": "scripted",
        "forwards": "8",
        "attempt": "1",
        "replayed": "false",
        "worker": "tester",
    }


ACCEPTS = {
    "anything": ("*/*", None, "application/json"),
    "any picture": ("image/*", None, "image/png"),
    "a picture, or else anything": ("image/webp, */*;q=0.1", None, "image/webp"),
    "what the body says": ("image/*", "jpeg", "image/jpeg"),
    "json before pictures": ("image/png;q=0.5, application/json", None, "application/json"),
}


@pytest.mark.parametrize("case", ACCEPTS)
async def test_the_form_is_what_the_caller_likes_best(caller, case):
    """Accept chooses among JSON and the formats; the body's own format binds."""
    accept, output_format, expected = ACCEPTS[case]
    body = {"prompt": "x", **SMALL}
    if output_format:
        body["output_format"] = output_format
    answer = await caller.generate(body, accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, expected)


@pytest.mark.parametrize(
    ("accept", "output_format"),
    [("image/png", "webp"), ("image/gif", "png"), ("text/html", "png"), ("image/*;q=0", "png")],
)
async def test_what_cannot_be_accepted_is_not_drawn(caller, accept, output_format):
    """An Accept that leaves nothing is told what there would be, before anything is drawn."""
    job_id = name()
    body = {"prompt": "x", "output_format": output_format}
    told = problem(await caller.generate(body, job_id, accept=accept), 406, "not_acceptable")
    assert f"image/{output_format}" in told["detail"]
    problem(await caller.get(f"/job/{job_id}"), 404, "not_found")


# ---------------------------------------------------------------- the key


async def test_the_same_key_is_the_same_picture(caller, tmp_path):
    """A repeated call is answered with the same bytes, marked as replayed; drawn once."""
    body = {"prompt": f"note={tmp_path / 'starts'}", **SMALL}
    first, second = [(await caller.generate(body, "twice")).json() for _ in range(2)]
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert second["image_base64"] == first["image_base64"]
    assert (tmp_path / "starts").read_text() == "twice whole\n"


async def test_the_same_key_twice_at_once_is_drawn_once(service, caller, gate, tmp_path):
    """Two callers with one key wait for one picture."""
    body = {"prompt": f"wait={gate.path} note={tmp_path / 'starts'}", **SMALL}
    job_id = name()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(caller.generate(body, job_id))
        await asyncio.to_thread(gate.reached)
        second = tasks.create_task(caller.generate(body, job_id))
        await caller.crowd(2)
        gate.open()
    one, other = first.result().json(), second.result().json()
    assert one["image_base64"] == other["image_base64"]
    assert (tmp_path / "starts").read_text() == f"{job_id} whole\n"


@pytest.mark.parametrize("path", ["/generate", "/generate/async"])
async def test_another_body_under_the_same_key_is_a_conflict(caller, path):
    """A key that was used for something else is refused, and what it was used for stays."""
    job_id = name()
    first = await caller.generate({"prompt": "one", **SMALL}, job_id)
    other = await caller.http.post(
        path, json={"prompt": "other", **SMALL}, headers={"Idempotency-Key": job_id}
    )
    told = problem(other, 409, "idempotency_conflict")
    assert (told["retryable"], told["job_id"]) == (False, job_id)
    assert "Retry-After" not in other.headers
    assert (await caller.get(f"/job/{job_id}/result")).json()["sha256"] == first.json()[
        "sha256"
    ]


async def test_no_key_is_another_job_each_time(caller):
    """Without a key each call is a job of its own, with a UUID."""
    body = {"prompt": "x", **SMALL}
    ids = {(await caller.generate(body)).json()["job_id"] for _ in range(2)}
    assert {len(job_id) for job_id in ids} == {36}
    assert len(ids) == 2


async def test_who_asks_again_after_a_passed_deadline_has_it_drawn(service, caller, gate):
    """A job whose patience ended is no verdict: with more of it the same key is drawn."""
    body, job_id = held(gate), name()
    async with asyncio.TaskGroup() as tasks:
        late = tasks.create_task(caller.generate(body, job_id, x_deadline_seconds="1.5"))
        await asyncio.to_thread(gate.reached)
        await asyncio.to_thread(service.wait, "stop_requested", job_id=job_id)
        gate.open()
    problem(late.result(), 504, "deadline_exceeded")
    assert (await caller.status(job_id))["status"] == "expired"
    async with asyncio.TaskGroup() as tasks:
        again = tasks.create_task(caller.generate(body, job_id))
        await asyncio.to_thread(gate.reached)
        gate.open()
    assert again.result().json()["attempt"] == 2


# ---------------------------------------------------------------- what is wrong with a request

BAD_BODIES = {
    "no prompt": (b"{}", "prompt"),
    "too large": (b'{"prompt": "x", "width": 1537}', "width"),
    "unknown field": (b'{"prompt": "x", "promt": "y"}', "promt"),
    "broken JSON": (b'{"prompt": ', None),
    "no object": (b"[]", None),
    "a field twice": (b'{"prompt": "x", "prompt": "y"}', None),
    "not UTF-8": (b'{"prompt": "\xff"}', None),
    "nothing": (b"", None),
    "deep": (b'{"prompt": ' + b"[" * 20_000, None),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_refused_by_field(caller, case):
    """What is wrong is told field by field, and nothing is left behind."""
    body, field = BAD_BODIES[case]
    job_id = name()
    headers = {"Content-Type": "application/json", "Idempotency-Key": job_id}
    for path in ("/generate", "/generate/async"):
        answer = await caller.http.post(path, content=body, headers=headers)
        told = problem(answer, 400, "invalid_request")
        assert [detail["field"] for detail in told["details"]] == ([field] if field else [])
        assert not told["retryable"]
    problem(await caller.get(f"/job/{job_id}"), 404, "not_found")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Idempotency-Key", "not a key"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "x" * 129),
        ("Idempotency-Key", "../etc"),
        ("X-Deadline-Seconds", "soon"),
        ("X-Deadline-Seconds", "0"),
        ("X-Deadline-Seconds", "-1"),
        ("X-Deadline-Seconds", "86401"),
        ("X-Deadline-Seconds", "nan"),
    ],
)
async def test_a_bad_header_is_refused_by_name(caller, header, value):
    """A key that is no job id, or a patience that nobody has, is named."""
    answer = await caller.http.post("/generate", json={"prompt": "x"}, headers={header: value})
    told = problem(answer, 400, "invalid_request")
    assert [detail["field"] for detail in told["details"]] == [header]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
    ids=str,
)
async def test_what_is_not_json_is_refused(caller, headers):
    """A form, which any page may send anywhere, is not taken for JSON."""
    for path in ("/generate", "/generate/async"):
        answer = await caller.http.post(path, content=b'{"prompt": "x"}', headers=headers)
        problem(answer, 415, "unsupported_media_type")


async def test_a_media_type_may_have_parameters(caller):
    """`application/json; charset=utf-8` is JSON."""
    answer = await caller.http.post(
        "/generate",
        content=json.dumps({"prompt": "x", **SMALL}),
        headers={"Content-Type": "Application/JSON; charset=utf-8"},
    )
    assert answer.status_code == 200


FAILURES = {
    "long": (400, "invalid_request", False),
    "oom": (503, "out_of_memory", True),
    "nan": (503, "nan_output", True),
    "boom": (500, "internal", True),
}


@pytest.mark.parametrize("word", FAILURES)
async def test_a_failure_is_a_typed_error(caller, word):
    """What went wrong on the GPU has its code and status; what may pass says when to come again."""
    status, code, retryable = FAILURES[word]
    job_id = name()
    answer = await caller.generate({"prompt": word, **SMALL}, job_id)
    told = problem(answer, status, code)
    assert (told["retryable"], told["job_id"]) == (retryable, job_id)
    assert (int(answer.headers.get("Retry-After", 0)) >= 1) is (status == 503)
    job = await caller.status(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", code)
    problem(await caller.get(f"/job/{job_id}/result"), status, code)
    problem(await caller.get(f"/job/{job_id}/image"), status, code)
