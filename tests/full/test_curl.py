"""The HTTP face as curl meets it: every page, the way the documentation shows it."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from schemas.http import Accepted
from schemas.status import JobList, JobStatus
from tests import asking
from tests.asking import SMALL, Caller, held, name

gate = asking.gate
house, service = asking.house, asking.service
PATIENCE_S = "60"


@dataclass(frozen=True)
class Answer:
    """What curl printed of one answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self):
        return json.loads(self.body)


class Curl:
    """The real binary, against one service."""

    def __init__(self, served, folder):
        program = shutil.which("curl")
        assert program, "install curl: these tests are about it"
        self._base = [program, "-sS", "--max-time", PATIENCE_S]
        self._url = f"http://127.0.0.1:{served.port}"
        self._folder = folder

    def __call__(self, path, *arguments):
        head, body = self._folder / "head", self._folder / "body"
        body.unlink(missing_ok=True)
        command = [*self._base, "-D", head, "-o", body, *arguments, f"{self._url}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        first, *lines = head.read_text().strip().split("\n\n")[-1].splitlines()
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        content = body.read_bytes() if body.exists() else b""
        return Answer(int(first.split()[1]), headers, content)

    def post(self, path, body, *arguments):
        return self(path, "--json", json.dumps(body), *arguments)


@pytest.fixture
def curl(service, tmp_path):
    return Curl(service, tmp_path)


@pytest.fixture(scope="module")
def drawn(house, tmp_path_factory):
    """The id of a picture that is there."""
    curl = Curl(house.service(), tmp_path_factory.mktemp("curl"))
    return curl.post("/generate", {"prompt": "An otter", **SMALL}).data["job_id"]


def problem(answer, status, code):
    assert (answer.status, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert answer.data["code"] == code


def test_a_picture_as_json(curl):
    """`curl --json` draws and waits."""
    answer = curl.post("/generate", {"prompt": "An otter", "seed": 7, **SMALL})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (answer.data["success"], answer.data["seed"]) == (True, 7)


@pytest.mark.parametrize(
    ("media_type", "begin"),
    [("image/png", b"\x89PNG"), ("image/webp", b"RIFF"), ("image/jpeg", b"\xff\xd8\xff")],
)
def test_a_picture_as_a_file(curl, media_type, begin):
    """`-H Accept -o` writes the picture, and `-D` its facts."""
    answer = curl.post("/generate", {"prompt": "x", **SMALL}, "-H", f"Accept: {media_type}")
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)
    assert answer.body.startswith(begin)
    assert answer.headers["x-imagegen-sha256"] == hashlib.sha256(answer.body).hexdigest()


def test_what_is_wrong_is_told(curl):
    """Wrong fields, the default form of curl, another method, a wrong Accept: typed problems."""
    problem(curl.post("/generate", {"prompt": ""}), 400, "invalid_request")
    problem(curl("/generate", "-d", "prompt=x"), 415, "unsupported_media_type")
    problem(curl("/generate"), 405, "method_not_allowed")
    problem(curl("/generate", "-X", "OPTIONS"), 405, "method_not_allowed")
    answer = curl.post("/generate", {"prompt": "x"}, "-H", "Accept: image/gif")
    problem(answer, 406, "not_acceptable")
    answer = curl.post("/generate", {"prompt": "x"}, "-H", "Host: evil.example")
    problem(answer, 403, "forbidden")
    answer = curl.post("/generate", {"prompt": "x"}, "-H", "Origin: http://evil.example")
    problem(answer, 403, "forbidden")


def test_a_large_body_is_refused(curl, tmp_path):
    """64 KiB and a byte, or a megabyte: the answer arrives, whole."""
    for size in (65_537, 1_000_000):
        (tmp_path / "large").write_bytes(b" " * size)
        for chunked in ([], ["-H", "Transfer-Encoding: chunked"]):
            for expect in ([], ["-H", "Expect: 100-continue"]):
                answer = curl(
                    "/generate",
                    *("-H", "Content-Type: application/json", *chunked, *expect),
                    *("--data-binary", f"@{tmp_path / 'large'}"),
                )
                problem(answer, 413, "request_too_large")


def test_the_same_key_is_the_same_job(curl):
    """Repeated it is replayed; with another body it is a conflict."""
    key = ("-H", f"Idempotency-Key: {name()}")
    first, second = [curl.post("/generate", {"prompt": "x", **SMALL}, *key) for _ in range(2)]
    assert (first.data["replayed"], second.data["replayed"]) == (False, True)
    assert first.data["sha256"] == second.data["sha256"]
    other = curl.post("/generate", {"prompt": "other"}, *key)
    problem(other, 409, "idempotency_conflict")


async def test_a_job_is_asked_for_followed_and_fetched(service, curl, gate):
    """The whole walk: 202, its status, its events to the end, its result and its picture."""
    accepted = curl.post("/generate/async", held(gate), "-H", "X-Deadline-Seconds: 100")
    assert accepted.status == 202
    pages = Accepted.model_validate_json(accepted.body)
    assert accepted.headers["location"] == pages.status_url
    await asyncio.to_thread(gate.reached)
    assert JobStatus.model_validate_json(curl(pages.status_url).body).status == "running"
    early = curl(pages.result_url)
    problem(early, 409, "not_ready")
    assert int(early.headers["retry-after"]) >= 1
    following = asyncio.get_running_loop().create_task(
        asyncio.to_thread(curl, pages.events_url, "-N")
    )
    async with Caller(service) as looker:
        await looker.crowd(1)
    gate.open()
    events = await following
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.body.startswith(b"id: 1\nevent: running\ndata: {")
    assert b"\nevent: succeeded\ndata: {" in events.body
    assert curl(pages.result_url).data["job_id"] == pages.job_id
    assert curl(pages.image_url).headers["content-type"] == "image/png"


async def test_a_job_is_called_off(service, curl, gate):
    """`-X DELETE` ends what waits, and stops what runs."""
    running = curl.post("/generate/async", held(gate)).data["job_id"]
    await asyncio.to_thread(gate.reached)
    waiting = curl.post("/generate/async", {"prompt": "x", **SMALL}).data["job_id"]
    answer = curl(f"/job/{waiting}", "-X", "DELETE")
    assert (answer.status, answer.data["status"]) == (200, "cancelled")
    answer = curl(f"/job/{running}", "-X", "DELETE")
    assert answer.status == 202
    await asyncio.to_thread(service.wait, "stop_requested", job_id=running)
    gate.open()
    curl(f"/job/{running}/events", "-N")
    assert curl(f"/job/{running}").data["status"] == "cancelled"
    problem(curl(f"/job/{running}/result"), 409, "cancelled")
    problem(curl("/job/nobody-knows-it", "-X", "DELETE"), 404, "not_found")


def test_a_picture_is_fetched_once(curl, drawn, tmp_path):
    """`--etag-compare` fetches nothing that is there already; `-I` fetches nothing at all."""
    tag = tmp_path / "tag"
    first = curl(f"/job/{drawn}/image", "--etag-save", tag)
    assert (first.status, first.body[:4]) == (200, b"\x89PNG")
    again = curl(f"/job/{drawn}/image", "--etag-compare", tag)
    assert (again.status, again.body) == (304, b"")
    head = curl(f"/job/{drawn}/image", "-I")
    assert int(head.headers["content-length"]) == len(first.body)


def test_jobs_are_listed(curl, drawn):
    """Pages of a list, and the problem with a parameter that is not known."""
    page = JobList.model_validate_json(curl("/jobs?limit=1&status=succeeded").body)
    assert [job.status for job in page.jobs] == ["succeeded"]
    listed = JobList.model_validate_json(curl("/jobs?limit=200").body)
    assert drawn in {job.job_id for job in listed.jobs}
    problem(curl("/jobs?limits=1"), 400, "invalid_request")


@pytest.mark.parametrize("page", ["", "/result", "/image", "/events"])
def test_nobodys_job_is_not_found(curl, page):
    """An id that nobody knows is 404 on each of its pages."""
    problem(curl(f"/job/nobody-knows-it{page}"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "application/json"),
        ("/livez", "application/json"),
        ("/readyz", "application/json"),
        ("/health", "application/health+json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/openapi.json", "application/json"),
        ("/docs", "text/html; charset=utf-8"),
    ],
)
def test_the_other_pages(curl, path, media_type):
    """Probes, metrics and documents are there."""
    answer = curl(path)
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)
    assert answer.body


def test_a_token_is_shown(serve, tmp_path):
    """`-H Authorization` opens the job API; without it there is nothing."""
    token = "a-token-of-some-length"
    curl = Curl(serve(API_TOKEN=token).wait_ready(), tmp_path)
    problem(curl("/jobs"), 401, "unauthorized")
    assert curl("/jobs", "-H", f"Authorization: Bearer {token}").data["jobs"] == []
    assert curl("/livez").status == 200
