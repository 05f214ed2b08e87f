"""Debian's Chromium, headless, driven by its own protocol over a pipe: keys, clicks, what it asks for."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from itertools import count

PATIENCE_S = 90.0
QUIET = (
    "--headless",
    "--no-sandbox",  # as root, in containers
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
)
"""Without a screen, and without calls of its own."""
OPTIONS = (
    *QUIET,
    "--renderer-process-limit=4",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
KEYS = {
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "Tab": {"windowsVirtualKeyCode": 9},
    "Escape": {"windowsVirtualKeyCode": 27},
}
SHIFT = 8


class Chromium:
    """One browser; `context` gives people who share nothing in it."""

    def __init__(self, folder):
        self._folder = folder
        self._ids = count(1)
        self._news = threading.Condition()
        self._answers = {}
        self.events = []
        self._ended = False
        self._closed = False

    def __enter__(self):
        program = shutil.which("chromium") or shutil.which("google-chrome")
        assert program, "no browser is installed: apt-get install chromium"
        reads, self._writes = _pipe()
        self._reads, writes = _pipe()
        self.net_log = self._folder / "net.json"
        self._browser = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$0" "$@" 3<&{reads} 4>&{writes}',
                program,
                *OPTIONS,
                f"--user-data-dir={self._folder / 'profile'}",
                f"--log-net-log={self.net_log}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(reads, writes),
            start_new_session=True,
        )
        os.close(reads)
        os.close(writes)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End it, in order if it answers, so that its log is whole. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._browser.wait(PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._browser.pid, signal.SIGKILL)
        self._browser.wait()
        self._reader.join(PATIENCE_S)
        os.close(self._writes)
        os.close(self._reads)

    def call(self, method, session=None, **params):
        """Ask the browser for something; returns its answer."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        with self._news:
            done = self._news.wait_for(
                lambda: number in self._answers or self._ended, PATIENCE_S
            )
            assert done, f"the browser does not answer {method}"
            assert number in self._answers or method == "Browser.close", f"it ended at {method}"
            answer = self._answers.pop(number, {})
        assert "error" not in answer, (method, answer)
        return answer.get("result", {})

    def wait(self, method, told=lambda _: True):
        """Return the first event of this kind of which `told` is true, past or to come."""

        def found():
            return next(
                (
                    e["params"]
                    for e in self.events
                    if e["method"] == method and told(e["params"])
                ),
                None,
            )

        with self._news:
            assert self._news.wait_for(lambda: found() or self._ended, PATIENCE_S), method
            return found()

    def person(self, url, downloads=None, cookie=None):
        """A page in a context of its own: its cookies are nobody else's."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        if downloads is not None:
            self.call(
                "Browser.setDownloadBehavior",
                behavior="allow",
                downloadPath=str(downloads),
                browserContextId=context,
                eventsEnabled=True,
            )
        if cookie is not None:
            kept = {"name": "imagegen_chat", "value": cookie, "url": url, "httpOnly": True}
            self.call("Storage.setCookies", cookies=[kept], browserContextId=context)
        return self.tab(url, context)

    def tab(self, url, context):
        """One more page of a person."""
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], context, url)
        page.open()
        return page

    def _read(self):
        rest = b""
        while piece := os.read(self._reads, 1 << 20):
            *messages, rest = (rest + piece).split(b"\0")
            with self._news:
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self.events.append(message)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Page:
    """A page as a person uses it."""

    def __init__(self, browser, session, context, url):
        self._browser = browser
        self._session = session
        self.context = context
        self.url = url

    def call(self, method, **params):
        return self._browser.call(method, self._session, **params)

    def open(self):
        for domain in ("Page", "Network", "Runtime", "Accessibility", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=self.url)

    def reload(self):
        """Load it again, and return once the old one is gone."""
        self.run("window.stale = true")
        self.call("Page.reload")
        self.until("!window.stale && document.readyState === 'complete'")

    def run(self, expression):
        """Return the value of an expression, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, (expression, answer)
        return answer["result"].get("value")

    def until(self, expression):
        """Wait until an expression is true on the page; returns its value."""
        until = time.monotonic() + PATIENCE_S
        look = (
            "new Promise((yes) => { const until = performance.now() + 2000; (function look() {"
            f" const found = ({expression});"
            " if (found || performance.now() > until) yes(found); else setTimeout(look, 20); })(); })"
        )
        while time.monotonic() < until:
            with contextlib.suppress(AssertionError):  # the page was loaded anew meanwhile
                if found := self.run(look):
                    return found
        seen = self.run("document.body.innerText")
        raise AssertionError(f"never: {expression}\n{seen}\n{self.complaints()}")

    def press(self, key, *, shift=False):
        """Press a key, as a keyboard does."""
        fields = {"key": key, "code": key, "modifiers": SHIFT if shift else 0, **KEYS[key]}
        kind = "keyDown" if "text" in fields else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, **fields)
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def type(self, text):
        """Write where the focus is."""
        self.call("Input.insertText", text=text)

    def click(self, selector):
        """Click on the middle of the last element that is meant."""
        at = self.until(
            "(() => { const all = document.querySelectorAll(" + json.dumps(selector) + ");"
            " const it = all[all.length - 1]; if (!it) return null;"
            " it.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const box = it.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=at[0],
                y=at[1],
                button="left",
                clickCount=1,
            )

    def requests(self):
        """Every URL that this page has asked for."""
        return [
            event["params"]["request"]["url"]
            for event in list(self._browser.events)
            if event["method"] == "Network.requestWillBeSent"
            and event.get("sessionId") == self._session
        ]

    def complaints(self):
        """What the browser wrote to this page's console."""
        return [
            event["params"]
            for event in list(self._browser.events)
            if event["method"] in {"Log.entryAdded", "Runtime.exceptionThrown"}
            and event.get("sessionId") == self._session
        ]

    def looks(self, scheme, width, height, *, mobile=False):
        """Have it shown light or dark, in this size."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def photograph(self, path):
        """Write what is seen to a file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def heard(self):
        """What a screen reader is told of: (role, name) of everything that is not ignored."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]


def _pipe():
    """A pipe whose ends stand above the numbers that the browser expects."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high
