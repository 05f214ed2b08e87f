"""The carrier: takes orders to the service and brings pictures back, over AMQP or over HTTP."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from imagegen_client import GeneratedImage, ImageClient, InvalidRequest, JobStatus, Progress

OnProgress = Callable[[Progress], None]


class Carrier(Protocol):
    """What the commands need of either way. Errors are ImageErrors, the same over both."""

    async def generate(
        self, prompt: str, *, deadline_s: float, on_progress: OnProgress, **options: Any
    ) -> GeneratedImage:
        """Have a picture drawn; who is cancelled meanwhile calls it off."""

    async def send(self, prompt: str, *, deadline_s: float, **options: Any) -> str:
        """Have a picture drawn and stored; returns the job's id."""

    async def status(self, job_id: str) -> JobStatus:
        """Return where a job stands."""

    def watch(self, job_id: str) -> AsyncGenerator[JobStatus]:
        """Give the state now, and each change until the end."""

    async def jobs(self, limit: int) -> list[JobStatus]:
        """Return the newest jobs."""

    async def cancel(self, job_id: str) -> JobStatus | None:
        """Call a job off; returns where it stood, if that is told."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to the service; the scheme of the URL tells which."""

    url: str
    token: str | None = None
    """For HTTP, where the service asks for one."""


def reached(route: Route) -> AbstractAsyncContextManager[Carrier]:
    """Return the carrier of a route, to be entered.

    Raises:
        InvalidRequest: the URL is none.
    """
    if route.url.startswith("http"):
        from consumer.remote import RemoteClient  # noqa: PLC0415 - only who needs httpx waits for it

        return RemoteClient(route.url, route.token)
    try:
        return ImageClient(route.url)
    except ValueError as error:
        raise InvalidRequest(f"--url: {error}") from error


def base_url(host: str, port: int) -> str:
    """Return where the HTTP face of a service that listens there is reached on this machine."""
    address = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
