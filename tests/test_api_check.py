"""The HTTP face before schemathesis, in short; tests/full/test_schemathesis.py asks at length."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving import ROOT


def check(port, *words, timeout=160):
    """Ask a service whatever the document allows, and more; returns exit code and output."""
    command = [
        sys.executable,
        "-m",
        "tools.api_check",
        "--url",
        f"http://127.0.0.1:{port}",
    ]
    done = subprocess.run(
        [*command, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
def guided(serve):
    """A service whose model takes guidance: all that the schema allows can be drawn."""
    return serve(GUIDANCE_SCALE=4).wait_ready()


def test_some_hundred_requests_find_nothing_that_the_document_does_not_say(guided):
    """The same seed each time, single requests and lives of jobs: no promise is broken."""
    phases = "examples,fuzzing,stateful"
    code, said = check(
        guided.port, "--cases", "16", "--seed", "1", "--phases", phases, "--at-least", "150"
    )
    assert code == 0, said


class Wrong(BaseHTTPRequestHandler):
    """Answers everything with a body of its own invention."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def log_message(self, *_):
        pass


def test_the_check_finds_a_service_that_is_wrong():
    """It fails on bodies and headers that are not those of the document, and on too few requests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        phases = ("--cases", "1", "--phases", "examples")
        wrong, said = check(server.server_port, *phases)
        few, also_said = check(server.server_port, *phases, "--at-least", "1000")
        server.shutdown()
        thread.join()
    assert (wrong, few) == (1, 1)
    assert "Response violates schema" in said
    assert "Missing required response headers" in said
    assert "fewer than the 1,000" in also_said
