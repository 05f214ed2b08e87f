"""The OpenAI pages: the images API of OpenAI over the same jobs as any other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import orjson
import pybase64
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from consumer.errors import Fault
from consumer.http import openai_errors
from consumer.http.asked import Asked, ClientGoneError
from consumer.http.face import Face
from consumer.http.openai_asked import asked_pictures
from consumer.http.pages import Page, leaving, routes_of
from consumer.http.problems import ProblemError
from schemas.base import Contract
from schemas.errors import ErrorCode
from schemas.openai import Model, ModelList
from schemas.reply import ResultFacts

Drawn = tuple[ResultFacts, bytes]

PIECE_BYTES = 192 * 1024
"""Of a picture, in one piece of an answer; a multiple of three, so that no base64 but the last is padded."""


class OpenAI:
    """The pages under `/v1`."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._since = _now()

    def routes(self) -> list[Route]:
        """Return the routes."""
        table: list[tuple[str, str, Page]] = [
            ("POST", "/v1/images/generations", self.generations),
            ("GET", "/v1/models", self.models),
            # A model's name may have slashes.
            ("GET", "/v1/models/{model:path}", self.model),
        ]
        return routes_of(table, self._face.service.metrics, openai_errors.response)

    async def generations(self, request: Request) -> Response:
        """Have pictures drawn and wait for all of them."""
        wanted = await asked_pictures(request, self._face.service.limits(), self._called_off)
        with leaving(request) as gone:
            drawn = await self._draw(wanted, gone)
        return StreamingResponse(_rendered(drawn, _now()), media_type="application/json")

    async def models(self, _: Request) -> Response:
        """Return the one model, once it is known."""
        return _json(ModelList(data=self._models()))

    async def model(self, request: Request) -> Response:
        """Return a model by its name."""
        for model in self._models():
            if model.id == request.path_params["model"]:
                return _json(model)
        message = "This model does not draw here. GET /v1/models tells which one does."
        raise ProblemError(Fault(ErrorCode.NOT_FOUND, message))

    def _models(self) -> tuple[Model, ...]:
        known = self._face.service.snapshot().page.get("model")
        return (Model(id=known["id"], created=self._since),) if known else ()

    async def _called_off(self, job_id: str) -> bool:
        try:
            record = await self._face.find(job_id)
        except ProblemError:
            return False  # nothing is known of it
        # One that was dropped as nobody waited for it starts again under its own id.
        return record.status == "cancelled" and not record.abandoned

    async def _draw(self, wanted: Sequence[Asked], gone: "asyncio.Future[None]") -> list[Drawn]:
        """Have all of them drawn; where one cannot be had, or nobody waits, the others are called off.

        Raises:
            ProblemError: one cannot be had.
            ClientGoneError: there is nobody to give them to.
        """
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(_: object) -> None:
            if not over.done():
                over.set_result(None)

        async def one(asked: Asked) -> Drawn:
            try:
                return await self._face.draw(asked, over)
            except Exception:
                end(None)
                raise

        gone.add_done_callback(end)
        ends = await asyncio.gather(*map(one, wanted), return_exceptions=True)
        return _all_of(ends)


def _all_of(ends: Sequence[Drawn | BaseException]) -> list[Drawn]:
    """Return all pictures, or raise why there are not all of them.

    Those that were called off because of another one are told of by that one's error.
    """
    errors = [end for end in ends if isinstance(end, BaseException)]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, ClientGoneError))
    return [end for end in ends if not isinstance(end, BaseException)]


async def _rendered(drawn: Sequence[Drawn], now: int) -> AsyncIterator[bytes]:
    """Give the JSON of an ImagesResponse, piece by piece.

    Ten large pictures are 94 MB of base64, which joined would be in memory three times more.
    """
    first = drawn[0][0]
    facts = {
        "created": now,
        "background": "opaque",
        "output_format": first.format,
        "size": f"{first.width}x{first.height}",
    }
    before = orjson.dumps(facts)[:-1] + b',"data":['
    for told, image in drawn:
        named = orjson.dumps({"seed": told.seed, "job_id": told.job_id})
        yield b"".join((before, named[:-1], b',"b64_json":"'))
        for start in range(0, len(image), PIECE_BYTES):
            yield pybase64.b64encode(image[start : start + PIECE_BYTES])
            # The others' turn; and a caller who is gone is not noticed before.
            await asyncio.sleep(0)
        before = b'"},'
    yield b'"}]}'


def _json(body: Contract) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")


def _now() -> int:
    return int(datetime.now(tz=UTC).timestamp())
