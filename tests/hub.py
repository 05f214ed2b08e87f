"""A hub of models on loopback: the few pages that huggingface_hub asks for, over a folder of real files."""

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

MODEL = "somebody/tiny"
LARGE = (".safetensors", ".bin", ".onnx")
"""What git itself does not hold: the hub's LFS."""


@dataclass
class Faults:
    """What the hub does wrong, or may not give."""

    cut: dict[str, list[int]] = field(default_factory=dict)
    """By path: after so many bytes of an answer the connection breaks, once for each."""
    flip: set[str] = field(default_factory=set)
    """Paths whose first byte comes as another."""
    parts: bool = True
    """Whether it gives parts of a file."""
    busy: int = 0
    """So many files are answered 503 first."""
    error: tuple[int, str] | None = None
    """Status and X-Error-Code of every answer."""
    token: str | None = None
    """What must be shown."""
    held: str | None = None
    """The path that comes to its half, and then waits for `go_on`."""
    pretend: dict[str, int] = field(default_factory=dict)
    """By path: the size that is told of it."""


class FakeHub:
    """One model, served as the hub does; `asked` has the paths of files that were read, in order."""

    def __init__(self, folder, commit="c" * 40):
        self.folder = Path(folder)
        self.commit = commit
        self.faults = Faults()
        self.asked = []
        self.requests = []
        self.ranges = {}
        self.halfway = threading.Event()
        self.go_on = threading.Event()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self})
        )
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self):
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def paths(self):
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in files)

    def record(self, path):
        """What the hub knows of a file: size, SHA-1 of the blob, SHA-256 where it is large."""
        body = (self.folder / path).read_bytes()
        size = self.faults.pretend.get(path, len(body))
        sha256 = hashlib.sha256(body).hexdigest() if path.endswith(LARGE) else None
        in_git = body if sha256 is None else f"pointer to {sha256}".encode()
        blob = hashlib.sha1(f"blob {len(in_git)}\0".encode() + in_git).hexdigest()  # noqa: S324
        return size, blob, sha256

    def refusal(self, headers):
        if self.faults.error is not None:
            return self.faults.error
        if self.faults.token and headers.get("Authorization") != f"Bearer {self.faults.token}":
            return 401, "GatedRepo"
        return None

    def page(self, path):
        """Return what the API tells; None where there is no such revision."""
        revision = (
            path.rpartition("/")[2] if "/revision/" in path or "/tree/" in path else "main"
        )
        if revision not in {"main", self.commit}:
            return None
        files = [(name, *self.record(name)) for name in self.paths()]
        if "/tree/" in path:
            return [
                {
                    "type": "file",
                    "path": name,
                    "size": size,
                    "oid": blob,
                    **({"lfs": _lfs("oid", size, sha256)} if sha256 else {}),
                }
                for name, size, blob, sha256 in files
            ]
        siblings = [
            {
                "rfilename": name,
                "size": size,
                "blobId": blob,
                **({"lfs": _lfs("sha256", size, sha256)} if sha256 else {}),
            }
            for name, size, blob, sha256 in files
        ]
        return {"id": MODEL, "modelId": MODEL, "sha": self.commit, "siblings": siblings}


def _lfs(name, size, sha256):
    return {name: sha256, "size": size, "pointerSize": 130}


class _Handler(BaseHTTPRequestHandler):
    """One connection; `hub` is the hub that it speaks for."""

    hub = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if (refusal := self.hub.refusal(self.headers)) is not None:
                self.refuse(*refusal)
            elif path.startswith(f"/api/models/{MODEL}"):
                self.give_json(self.hub.page(path))
            elif path.startswith(f"/{MODEL}/resolve/"):
                self.give_file(path.split("/", 5)[5], with_body)
            else:
                self.refuse(404, "RepoNotFound")

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give_json(self, told):
        if told is None:
            self.refuse(404, "RevisionNotFound")
            return
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def give_file(self, path, with_body):
        if path not in self.hub.paths():
            self.refuse(404, "EntryNotFound")
            return
        if with_body and self.hub.faults.busy:
            self.hub.faults.busy -= 1
            self.refuse(503, "")
            return
        size, blob, sha256 = self.hub.record(path)
        begin = self.begin() if with_body and self.hub.faults.parts else 0
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{sha256 or blob}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", str(size - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.end_headers()
        if with_body:
            self.hub.asked.append(path)
            self.hub.ranges.setdefault(path, []).append(begin)
            self.give_bytes(path, begin)

    def begin(self):
        asked = self.headers.get("Range", "bytes=0-")
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def give_bytes(self, path, begin):
        body = (self.hub.folder / path).read_bytes()
        if path in self.hub.faults.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        rest = body[begin:]
        if path == self.hub.faults.held:
            half = len(rest) // 2
            self.wfile.write(rest[:half])
            self.wfile.flush()
            self.hub.halfway.set()
            self.hub.go_on.wait()
            rest = rest[half:]
        if self.hub.faults.cut.get(path):
            self.wfile.write(rest[: self.hub.faults.cut[path].pop(0)])
            self.close_connection = True
            return
        self.wfile.write(rest)
