"""A process with a store of its own, for tests that kill, stop or starve it.

It takes one command a line (`begin ID`, `finish ID BYTES`, `probe`) and
answers each with one line.
"""

import asyncio
import subprocess
import sys

from consumer.store import Store, StoreLostError
from tests.storing import job, picture


class Child:
    """The test's handle on such a process."""

    def __init__(self, url, owner):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store_child", url, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.heard() == "open"

    def ask(self, command):
        """Send a command and return its answer."""
        self.send(command)
        return self.heard()

    def send(self, command):
        self.process.stdin.write(command + "\n")

    def heard(self):
        return self.process.stdout.readline().strip()

    def end(self):
        """Kill it, whatever its state; may be called twice."""
        with self.process:
            self.process.kill()


async def _obey(store, command, *words):
    match command:
        case "begin":
            return type(await store.begin(job(words[0]), redelivered=True)).__name__
        case "finish":
            return await store.finish(words[0], picture(words[0], b"x" * int(words[1])))
        case "probe":
            return await store.probe()
    raise ValueError(command)


async def _main(url, owner):
    store = Store(url, owner)
    await store.open()
    print("open", flush=True)  # noqa: T201 - to the test
    for line in sys.stdin:
        try:
            answer = await _obey(store, *line.split())
        except StoreLostError as error:
            answer = f"lost: {error}"
        print(answer, flush=True)  # noqa: T201 - to the test


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
