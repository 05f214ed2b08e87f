"""A real chat for tests: `python -m examples.chat` as a process, and people who use it over HTTP."""

import contextlib
import hashlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time

import httpx

from tests.serving import PATIENCE_S, ROOT

PASSWORD = "correct horse battery"
NOBODY = "amqp://nobody:nothing@127.0.0.1:1/imagegen"
"""A broker that is not there."""
READY = "The chat is ready: "


class Chatting:
    """One chat process."""

    def __init__(self, folder, url=NOBODY, **settings):
        self._folder = folder
        self._settings = {"AMQP_URL": url, "PORT": 0, "DATA_DIR": folder, **settings}
        self._people = []
        self._log = (folder.parent / f"{folder.name}.log").open("a+")
        self._start()

    def _start(self):
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CHAT_")
        }
        environment |= {f"CHAT_{name}": str(value) for name, value in self._settings.items()}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(ROOT / "clients" / "python")]
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.chat"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith(READY), line + self.log()
        self.origin = line.removeprefix(READY).strip()

    def restart(self, number=signal.SIGTERM):
        """End it, and start it again at the same address."""
        self.halt(number)
        self.resume()

    def halt(self, number=signal.SIGTERM):
        """End it, for now."""
        self._end(number)
        self._settings["PORT"] = self.origin.rpartition(":")[2]

    def resume(self):
        """Start it again, at the address from before."""
        self._start()

    def log(self):
        """What it wrote to its standard error."""
        self._log.seek(0)
        return self._log.read()

    def logged(self, words):
        """Wait until these words stand there."""
        until = time.monotonic() + PATIENCE_S
        while words not in self.log():
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def visitor(self, address=None):
        """Somebody who has opened the page, from an address of this machine."""
        person = Person(self.origin, address)
        self._people.append(person)
        return person

    def person(self, name):
        """Somebody who is signed in; made in the file, as a password costs a second."""
        person = self.visitor()
        person.http.cookies.clear()
        person.http.cookies.set("imagegen_chat", self.session(name), domain="127.0.0.1")
        told = person.http.get("/api/me").json()
        assert told["user"] == name
        person.token = told["token"]
        return person

    def session(self, name):
        """Return the cookie of somebody who is signed in."""
        cookie = secrets.token_urlsafe(32)
        digest = hashlib.sha256(cookie.encode()).digest()
        with contextlib.closing(sqlite3.connect(self._folder / "chat.sqlite")) as file, file:
            file.execute(
                "INSERT OR IGNORE INTO users (name, salt, hash, made_at) VALUES (?, ?, ?, ?)",
                (name, b"salt", b"hash", "2026-01-01T00:00:00.000+00:00"),
            )
            file.execute(
                "INSERT INTO sessions SELECT ?, id, ? FROM users WHERE name = ?",
                (digest, "2999-01-01T00:00:00.000+00:00", name),
            )
        return cookie

    def expire(self, picture):
        """Have a picture's deadline be past, as if it had been away for long."""
        with contextlib.closing(sqlite3.connect(self._folder / "chat.sqlite")) as file, file:
            moment = "2026-01-01T00:00:00.000+00:00"
            file.execute("UPDATE pictures SET deadline_at = ? WHERE id = ?", (moment, picture))

    def stop(self, number=signal.SIGTERM):
        """End it; returns the exit code."""
        for person in self._people:
            person.http.close()
        code = self._end(number)
        self.told = self.log()
        self._log.close()
        return code

    def _end(self, number):
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        return code


class Person:
    """A browser without a face: a cookie and a token."""

    def __init__(self, origin, address=None):
        self.http = httpx.Client(
            base_url=origin,
            timeout=PATIENCE_S,
            trust_env=False,
            transport=httpx.HTTPTransport(local_address=address),
        )
        self.token = self.http.get("/api/me").json()["token"]

    def sign(self, how, name="", password=PASSWORD):
        """Sign in, up or out; the token goes with the cookie."""
        answer = self.change(how, name=name, password=password)
        if answer.status_code == 200:
            self.token = answer.json()["token"]
        return answer

    def change(self, path, token=None, **body):
        headers = {"X-CSRF-Token": self.token if token is None else token}
        return self.http.post(f"/api/{path}", json=body, headers=headers)

    def say(self, text):
        answer = self.change("messages", text=text)
        assert answer.status_code == 202, answer.text

    def messages(self):
        """The conversation."""
        return self.http.get("/api/conversation").json()["messages"]

    def pictures(self):
        return [told["picture"] for told in self.messages() if told["picture"] is not None]

    def events(self, since=0, last_event_id=None):
        """Give (kind, number, data) of the stream."""
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        with self.http.stream("GET", f"/api/events?since={since}", headers=headers) as answer:
            fields = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif fields.get("event") == "who":
                    fields = {}
                elif "data" in fields:
                    number = int(fields["id"]) if "id" in fields else None
                    yield fields["event"], number, json.loads(fields["data"])
                    fields = {}

    def until(self, state, count=1):
        """Wait until so many pictures are in this state; returns them."""
        until = time.monotonic() + PATIENCE_S
        for _ in self.events():
            found = [picture for picture in self.pictures() if picture["state"] == state]
            if len(found) >= count:
                return found
            assert time.monotonic() < until, self.pictures()
        raise AssertionError(self.pictures())
