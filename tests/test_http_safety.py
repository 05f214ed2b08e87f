"""The HTTP face in the open: names, origins, tokens and documents, as a real service has them."""

import asyncio
import json

import pytest

from tests import asking
from tests.asking import SMALL, Caller, name, problem

house = asking.house
TOKEN = "a-token-of-some-length"
PROMPT = "an otter that nobody may read of"
API = ["/jobs", "/job/x", "/job/x/result", "/job/x/image", "/job/x/events"]
DOCUMENTS = ["/openapi.json", "/docs"]
PROBES = ["/", "/livez", "/readyz", "/health", "/metrics"]


@pytest.fixture
def service(house):
    return house.service(API_TOKEN=TOKEN, ALLOWED_HOSTS="images.example")


@pytest.fixture
async def caller(service):
    async with Caller(service, Authorization=f"Bearer {TOKEN}") as caller:
        yield caller


@pytest.fixture
async def stranger(service):
    async with Caller(service) as caller:
        yield caller


@pytest.mark.parametrize("path", [*API, *DOCUMENTS])
async def test_only_our_names_are_answered(caller, path):
    """Under a name that is not ours nothing is told, with the token neither."""
    problem(await caller.get(path, host="evil.example"), 403, "forbidden")
    for host in ("localhost", "images.example:80"):
        assert (await caller.get(path, host=host)).status_code != 403


@pytest.mark.parametrize("path", PROBES)
async def test_a_probe_asks_under_any_name_without_a_token(stranger, path):
    """What a probe asks is answered to anybody."""
    assert (await stranger.get(path, host="10.1.2.3:8034")).status_code == 200


@pytest.mark.parametrize("path", API)
async def test_without_the_token_nothing_is_told(stranger, path):
    """The job API wants the token; a wrong one is none."""
    for given in ({}, {"authorization": "Bearer wrong"}):
        answer = await stranger.get(path, **given)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/generate", "/generate/async"])
async def test_without_the_token_nothing_is_drawn(stranger, caller, path):
    """A request without the token leaves nothing behind; with it, it is drawn."""
    job_id, body = name(), {"prompt": "x", **SMALL}
    headers = {"Idempotency-Key": job_id}
    problem(await stranger.http.post(path, json=body, headers=headers), 401, "unauthorized")
    problem(await stranger.http.delete(f"/job/{job_id}"), 401, "unauthorized")
    problem(await caller.get(f"/job/{job_id}"), 404, "not_found")
    answer = await caller.http.post(path, json=body, headers=headers)
    assert answer.status_code in {200, 202}


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_the_documents_want_no_token(stranger, path):
    """Who has no token may read how to use it; the document says that there is one."""
    answer = await stranger.get(path)
    assert answer.status_code == 200
    assert TOKEN not in answer.text
    if path == "/openapi.json":
        assert answer.json()["security"] == [{"bearer": []}]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_a_page_from_elsewhere_draws_and_cancels_nothing(caller, headers):
    """A browser's word that a write comes from another page is enough to refuse it."""
    job_id = name()
    for path in ("/generate", "/generate/async"):
        answer = await caller.http.post(
            path, json={"prompt": "x"}, headers={"Idempotency-Key": job_id, **headers}
        )
        problem(answer, 403, "forbidden")
    problem(await caller.http.delete("/job/x", headers=headers), 403, "forbidden")
    problem(await caller.get(f"/job/{job_id}"), 404, "not_found")


METHODS = [
    ("OPTIONS", "/generate", "POST"),
    ("GET", "/generate", "POST"),
    ("PUT", "/generate/async", "POST"),
    ("OPTIONS", "/job/x", "DELETE, GET, HEAD"),
    ("POST", "/job/x", "DELETE, GET, HEAD"),
    ("POST", "/job/x/events", "GET, HEAD"),
    ("DELETE", "/jobs", "GET, HEAD"),
    ("POST", "/livez", "GET, HEAD"),
    ("POST", "/docs", "GET, HEAD"),
]


@pytest.mark.parametrize(("method", "path", "allowed"), METHODS)
async def test_a_page_knows_its_methods(caller, method, path, allowed):
    """Another method is 405 with Allow; a preflight gets no CORS header."""
    answer = await caller.http.request(
        method, path, headers={"Access-Control-Request-Method": "POST"}
    )
    problem(answer, 405, "method_not_allowed")
    assert ", ".join(sorted(answer.headers["allow"].split(", "))) == allowed


async def test_a_page_that_is_not_there(caller):
    """An unknown page is a problem of the same form."""
    for path in ("/nothing", "/job", "/job/x/y", "/generate/later"):
        problem(await caller.get(path), 404, "not_found")


@pytest.mark.parametrize("path", [*API, *DOCUMENTS, *PROBES, "/nothing"])
async def test_no_answer_goes_without_its_guards(stranger, caller, path):
    """Whatever is answered, it may not be embedded, sniffed, kept or read by another page."""
    for asker in (stranger, caller):
        headers = (await asker.get(path, origin="http://evil.example")).headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control-")]
        assert "server" not in headers


async def test_prompts_and_tokens_stay_out_of_the_log(service, caller):
    """Whatever becomes of a request, the log has neither its prompt nor the token."""
    for body in (
        {"prompt": PROMPT, **SMALL},
        {"prompt": f"boom {PROMPT}", **SMALL},
        {"prompt": f"long {PROMPT}", **SMALL},
        {"prompt": PROMPT, "width": 1},
        {"prompt": PROMPT, "promt": PROMPT},
    ):
        await caller.generate(body)
        answer = await caller.submit(body)
        if answer.status_code == 202:
            await caller.ended(answer.json()["job_id"])
    await caller.http.post("/generate", content=f'{{"prompt": "{PROMPT}', headers=JSON)
    await caller.get(f"/jobs?before={PROMPT}")
    log = "".join(service.lines)
    assert service.wait("ended")["event"] in log
    assert PROMPT not in log
    assert TOKEN not in log


JSON = {"Content-Type": "application/json"}


async def test_it_is_not_open_to_the_world_without_a_token(serve):
    """An address that others reach and no token is refused at the start, with a sentence."""
    service = serve(HOST="0.0.0.0")  # noqa: S104 - that is the point
    assert await asyncio.to_thread(service.end) == 78
    said = "".join(service.lines)
    assert "IMAGE_GEN_API_TOKEN" in said
    assert "IMAGE_GEN_HOST" in said


async def test_the_document_names_every_page(caller):
    """Each path of the document is there, and each of ours is in it."""
    document = json.loads((await caller.get("/openapi.json")).content)
    paths = set(document["paths"])
    assert {"/generate", "/generate/async", "/job/{job_id}", "/jobs"} <= paths
    for path, methods in document["paths"].items():
        for method in methods:
            answer = await caller.http.request(
                method.upper(), path.replace("{job_id}", "nobody-knows-it")
            )
            assert answer.status_code != 405, f"{method} {path}"
