"""Jobs, outcomes and a clock for the tests of the store."""

from datetime import UTC, datetime

from consumer.errors import Fault
from consumer.job import Drawing, IdSource, Job, Succeeded
from consumer.store.database import now_ms
from schemas.errors import ErrorCode, Problem
from schemas.reply import ResultFacts, Timings

NOW = datetime(2026, 11, 22, tzinfo=UTC)
POISON = Fault(ErrorCode.POISON, "Three deaths.")
INVALID = Fault(
    ErrorCode.INVALID_REQUEST,
    "prompt: too long",
    (Problem(field="prompt", problem="It is too long.", suggestion="shorter"),),
)
DIED = Fault(ErrorCode.GPU_DIED, "It died.")
LATE = Fault(ErrorCode.DEADLINE_EXCEEDED, "Too late.")


def job(job_id="job-1", body="a", source=IdSource.GIVEN, user_id=None):
    drawing = Drawing("x", 256, 256, 1, 8, 9, 0.0, "png")
    return Job(job_id, source, body * 64, drawing, NOW, NOW, user_id)


def picture(job_id="job-1", image=b"picture"):
    facts = ResultFacts(
        job_id=job_id,
        width=256,
        height=256,
        seed=2**53 - 1,
        prompt="日没 🌄",
        generation_time=3.45,
        format="png",
        sha256="e3b0",
        model="builtin",
        forwards=8,
        attempt=1,
        replayed=False,
        worker="tester",
        timings=Timings(queued=0.8, text_encode=0.1, denoise=3.1, vae_decode=0.2, encode=0.02),
    )
    return Succeeded(facts, image)


class Clock:
    """The database's own clock, put forward by the test."""

    def __init__(self):
        self._ahead_ms = 0

    def __call__(self, connection):
        return now_ms(connection) + self._ahead_ms

    def passes(self, seconds):
        self._ahead_ms += int(seconds * 1000)
