"""The runner: a job becomes an outcome. The one place that uses the GPU and maps its exceptions."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from consumer import VERSION, tracing
from consumer.errors import Fault
from consumer.gpu.process import (
    DrawingFailedError,
    DrawingStoppedError,
    Frame,
    GpuDiedError,
    GpuError,
    GpuProcess,
    GpuTimeoutError,
)
from consumer.gpu.protocol import Generate
from consumer.images import Metadata, encode
from consumer.job import (
    Abandoned,
    Cancelled,
    Drawing,
    Expired,
    Failed,
    GivenBack,
    Job,
    Outcome,
    Poison,
    Refused,
    Succeeded,
)
from consumer.keeper import Keeper
from consumer.logs import HIDDEN, logger, note
from consumer.metrics import Metrics
from consumer.store import CANCELLED_FAULT, Started
from schemas.errors import ErrorCode, Problem
from schemas.reply import ResultFacts, Timings

log = logger(__name__)

MAX_DEATHS = 3
"""Deaths and hangs of the GPU process after which a job is poison, over redeliveries too."""
RETRIES = 1
"""In place, after a death or a hang, too little memory, or a picture without numbers."""
_SOFT = {"out_of_memory", "nan_output"}
"""What the GPU reports of itself, and may do better a second time."""

OnStep = Callable[[int, int], None]
OnStart = Callable[[], None]


class StopCause(StrEnum):
    """Why a job was stopped."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    SHUTDOWN = "shutdown"


class Stop:
    """A request to stop one job; the first cause counts."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.cause: StopCause | None = None

    def request(self, cause: StopCause) -> None:
        """Stop the job at its next step, or before it starts."""
        if self.cause is None:
            self.cause = cause
            self.requested.set()


@dataclass(frozen=True, slots=True)
class Style:
    """What the runner writes into replies and pictures beside the drawing."""

    worker: str
    embed_prompt: bool


class Runner:
    """Draws jobs on the GPU, retries what may be retried, and encodes off the event loop."""

    def __init__(self, gpu: GpuProcess, store: Keeper, metrics: Metrics, style: Style) -> None:
        self._gpu = gpu
        self._store = store
        self._metrics = metrics
        self._style = style

    async def execute(
        self, job: Job, begun: Started, stop: Stop, on_start: OnStart, on_step: OnStep
    ) -> Outcome:
        """Draw a job until there is an outcome. Never raises for what a job can do."""
        turn = _Turn(job, begun, stop, on_start, on_step)
        try:
            return await self._draw_with_retries(turn)
        except DrawingStoppedError as error:
            self._account_for_stop(turn, error.gpu_seconds)
            return stopped(stop.cause)
        except DrawingFailedError as error:
            fault = _reported(error, job.drawing.prompt)
            return Refused(fault) if error.code == "invalid_request" else Failed(fault)

    async def _draw_with_retries(self, turn: "_Turn") -> Outcome:
        """Draw, and once more after what may be better then.

        Raises:
            DrawingStoppedError: the job was stopped.
            DrawingFailedError: the GPU says why there is no picture.
        """
        while not turn.stop.requested.is_set():
            command = _command(turn.job, tiled=turn.tiled)
            try:
                with tracing.stage("generate", DrawingStoppedError):
                    frame = await self._gpu.generate(
                        command, turn.on_step, turn.stop.requested, turn.on_start
                    )
                    tracing.stages(frame.seconds, frame.started)
            except (GpuDiedError, GpuTimeoutError) as error:
                ended = await self._after_death(turn, error)
                if ended is not None:
                    return ended
            except DrawingFailedError as error:
                self._after_failure(turn, error)
            else:
                if turn.stop.cause in {None, StopCause.SHUTDOWN}:
                    self._metrics.gpu_useful_seconds.inc(frame.gpu_seconds)
                    return await self._finish(turn.job, turn.begun.attempt, frame)
                self._account_for_stop(turn, frame.gpu_seconds)
                return stopped(turn.stop.cause)
        raise DrawingStoppedError("stopped before its turn")

    async def _after_death(
        self, turn: "_Turn", error: GpuDiedError | GpuTimeoutError
    ) -> Outcome | None:
        """Count it; return the outcome, or None if it may be tried once more."""
        died = isinstance(error, GpuDiedError)
        self._metrics.waste("died" if died else "hung", error.gpu_seconds)
        turn.deaths = await self._store.count_death(turn.job.id, turn.deaths)
        note(deaths=turn.deaths)
        log.warning("gpu_lost", job_id=turn.job.id, deaths=turn.deaths, problem=str(error))
        if turn.deaths >= MAX_DEATHS:
            return Poison(_poison(error))
        if turn.retries:
            turn.retries -= 1
            return None
        code = ErrorCode.GPU_DIED if died else ErrorCode.GPU_TIMEOUT
        return Failed(Fault(code, f"{_sentence(error)} Send it again."))

    def _after_failure(self, turn: "_Turn", error: DrawingFailedError) -> None:
        """Let it be tried once more, or raise it again."""
        wasted_by = error.code if error.code in _SOFT else "failed"
        self._metrics.waste(wasted_by, error.gpu_seconds)
        self._metrics.out_of_memory.inc(error.code == "out_of_memory")
        if error.code not in _SOFT or not turn.retries:
            raise error
        turn.retries -= 1
        turn.tiled = error.code == "out_of_memory"
        log.warning("drawing_retried", job_id=turn.job.id, code=error.code)

    def _account_for_stop(self, turn: "_Turn", spent: float) -> None:
        cause = turn.stop.cause or StopCause.SHUTDOWN
        self._metrics.waste(cause.value, spent)
        if cause is not StopCause.SHUTDOWN:
            drawing = turn.job.drawing
            whole = self._gpu.pace.picture_s(drawing.width, drawing.height, drawing.forwards)
            self._metrics.save(cause.value, max((whole or 0.0) - spent, 0.0))

    async def _finish(self, job: Job, attempt: int, frame: Frame) -> Succeeded:
        started = time.monotonic()
        drawing = job.drawing
        with tracing.stage("encode"):
            image, sha256 = await asyncio.to_thread(
                _encode_and_hash, frame, drawing, self._metadata(drawing, frame)
            )
        ended = time.monotonic()
        turn = ended - frame.started
        queued = (datetime.now(tz=UTC) - job.published).total_seconds() - turn
        return Succeeded(
            ResultFacts(
                job_id=job.id,
                width=frame.width,
                height=frame.height,
                seed=drawing.seed,
                prompt=drawing.prompt,
                generation_time=round(turn, 4),
                format=drawing.output_format,
                sha256=sha256,
                model=self._model,
                forwards=frame.forwards,
                attempt=attempt,
                replayed=False,
                worker=self._style.worker,
                timings=Timings(
                    queued=round(max(queued, 0.0), 4),
                    text_encode=round(frame.seconds.get("text_encode", 0.0), 4),
                    denoise=round(frame.seconds.get("denoise", 0.0), 4),
                    vae_decode=round(frame.seconds.get("vae_decode", 0.0), 4),
                    encode=round(ended - started, 4),
                ),
            ),
            image,
        )

    @property
    def _model(self) -> str:
        return self._gpu.ready.model if self._gpu.ready else "unknown"

    def _metadata(self, drawing: Drawing, frame: Frame) -> Metadata:
        ready = self._gpu.ready
        metadata: dict[str, str | int | float] = {
            "software": f"imagegen {VERSION}",
            "model": self._model,
            "revision": ready.revision if ready else "unknown",
            "width": frame.width,
            "height": frame.height,
            "seed": drawing.seed,
            "steps": drawing.steps,
            "forwards": frame.forwards,
            "guidance_scale": drawing.guidance,
        }
        if self._style.embed_prompt:
            metadata["prompt"] = drawing.prompt
        return metadata


@dataclass(slots=True)
class _Turn:
    """One job on its way to an outcome."""

    job: Job
    begun: Started
    stop: Stop
    on_start: OnStart
    on_step: OnStep
    retries: int = RETRIES
    tiled: bool = False
    """The VAE decodes in tiles: slower, in less memory."""
    deaths: int = field(init=False)

    def __post_init__(self) -> None:
        self.deaths = self.begun.deaths


def stopped(cause: StopCause | None) -> Outcome:
    """Return the outcome of a job that was stopped."""
    match cause:
        case StopCause.CANCELLED:
            return Cancelled(CANCELLED_FAULT)
        case StopCause.EXPIRED:
            return Expired(EXPIRED_FAULT)
        case StopCause.ABANDONED:
            return Abandoned()
        case StopCause.SHUTDOWN | None:
            return GivenBack()


EXPIRED_FAULT = Fault(
    ErrorCode.DEADLINE_EXCEEDED,
    "The deadline passed before the picture was there. Send it again with more patience.",
)


def _command(job: Job, *, tiled: bool) -> Generate:
    drawing = job.drawing
    return Generate(
        job.id,
        drawing.prompt,
        drawing.width,
        drawing.height,
        drawing.seed,
        drawing.forwards,
        drawing.guidance,
        tiled=tiled,
    )


def _sentence(error: GpuError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _encode_and_hash(frame: Frame, drawing: Drawing, metadata: Metadata) -> tuple[bytes, str]:
    image = encode(frame.pixels, frame.width, frame.height, drawing.output_format, metadata)
    return image, hashlib.sha256(image).hexdigest()


def _poison(error: Exception) -> Fault:
    return Fault(
        ErrorCode.POISON,
        f"This job ended the GPU process {MAX_DEATHS} times and is not tried again ({error}).",
    )


def _reported(error: DrawingFailedError, prompt: str) -> Fault:
    """Turn what the child reports into a fault of ours."""
    match error.code:
        case "invalid_request":
            problem = Problem(field="prompt", problem=str(error), suggestion="a shorter prompt")
            return Fault(ErrorCode.INVALID_REQUEST, f"prompt: {error}", (problem,))
        case "out_of_memory":
            return Fault(ErrorCode.OUT_OF_MEMORY, f"{error} Ask for a smaller size.")
        case "nan_output":
            return Fault(ErrorCode.NAN_OUTPUT, f"{error} Another seed may help.")
        case _:
            # What a library says of a prompt may quote it.
            told = str(error).replace(prompt, HIDDEN)
            log.error("drawing_failed", code=error.code, problem=told, frames=error.frames)
            return Fault(
                ErrorCode.INTERNAL,
                "The picture could not be drawn. The service's log has the reason.",
            )
