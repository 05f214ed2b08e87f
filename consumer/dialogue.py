"""The dialogue: one HTTP request to the service and its answer, or the error that came of it."""

import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx

from consumer.sse import Event, events
from imagegen_client import Busy, ImageError, InvalidRequest, Unavailable
from imagegen_client.answers import UNREADABLE
from imagegen_client.errors import error_from_reply

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 30.0
SILENCE_S = 40.0
"""A stream of events says something every 15 s; one that does not is broken."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Dialogue:
    """Speaks with one service."""

    def __init__(self, url: str, token: str | None) -> None:
        """Take the address of the service, http://host:port, and its token, if it wants one.

        Raises:
            InvalidRequest: the address is none.
        """
        self._http = httpx.AsyncClient(
            base_url=_checked(url),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            # A proxy of the environment is for the way out; the service is not there.
            trust_env=False,
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._http.aclose()

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Return the answer, whose status is one of success. `more` is as httpx has it.

        Raises:
            ImageError: the service's own; or Unavailable, whose `perhaps_taken` tells whether
                the service may have had the request.
        """
        with self._told():
            response = await self._http.request(method, path, **more)
        if not response.is_success:
            raise self._error(response)
        return response

    async def listen(self, path: str) -> AsyncGenerator[Event]:
        """Give the events of a stream. Raises as `ask`."""
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
        with self._told():
            async with self._http.stream("GET", path, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                    raise self._error(response)
                try:
                    async for event in events(response.aiter_bytes()):
                        yield event
                except ValueError as error:
                    raise self.strange(response) from error

    def strange(self, response: httpx.Response) -> Unavailable:
        """Return the error for an answer that is none of the service's."""
        return Unavailable(
            f"{self._http.base_url} answered {response.status_code} {response.reason_phrase}, and "
            "not as imagegen does. Is this its address?",
            retryable=response.is_server_error,
        )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Have the errors of the link told as Unavailable."""
        try:
            yield
        except _NOT_SENT as error:
            raise Unavailable(
                f"Nobody answers at {self._http.base_url}: {_reason(error)}. "
                "Start the service, or name its address with --url."
            ) from error
        except httpx.HTTPError as error:
            lost = Unavailable(
                f"The connection to {self._http.base_url} broke: {_reason(error)}."
            )
            lost.perhaps_taken = True
            raise lost from error

    def _error(self, response: httpx.Response) -> ImageError:
        """Return the error that a problem (RFC 9457) tells."""
        try:
            problem = response.json()
            told = {name: problem[name] for name in ("code", "retryable")}
            told |= {"message": problem["detail"], "details": problem.get("details", ())}
            error = error_from_reply({"error": told, "job_id": problem.get("job_id")})
            if isinstance(error, Busy):
                error.retry_after_s = float(response.headers["Retry-After"])
        except UNREADABLE:
            return self.strange(response)
        return error


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{url} is no address: {error}.") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidRequest(f"{url} is no address. Give http://host:port.")
    return parsed


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
