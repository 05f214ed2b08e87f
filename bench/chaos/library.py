"""The library: the client library as a chat backend uses it, with its calls in the books."""

import time
from uuid import uuid4

from bench.chaos.job import Job
from bench.chaos.ledger import LATE_S, PICTURE, Answer, Asked, Face, Ledger, Word
from imagegen_client import (
    Busy,
    DeadlineExceeded,
    GeneratedImage,
    ImageClient,
    ImageError,
    Unavailable,
)


class Library:
    """The client library, as a chat backend uses it."""

    def __init__(self, client: ImageClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger

    async def ask(
        self, job: Job, patience_s: float, wants: tuple[str, ...] = (PICTURE,)
    ) -> None:
        """Have a picture drawn, and book how the call ended."""
        began = time.monotonic()
        deadline = began + patience_s + LATE_S + LATE_S
        self._ledger.ask(Asked(job.id, job.id, Face.LIBRARY, deadline, wants))
        try:
            picture = await self._client.generate(
                job.prompt,
                deadline_s=patience_s,
                job_id=job.id,
                width=job.width,
                height=job.height,
                seed=job.seed,
            )
        except (Busy, Unavailable):
            self._ledger.tell(job.id, Word.REFUSED)
        except ImageError as error:
            self._ledger.tell(job.id, Word.CONFIRMED)
            silent = isinstance(error, DeadlineExceeded) and (
                time.monotonic() - began >= patience_s + LATE_S - 1
            )
            if not silent:
                answer = Answer(job.id, str(uuid4()), job.id, error.code, error.code)
                self._ledger.answer(answer)
        else:
            self._ledger.tell(job.id, Word.CONFIRMED)
            self._ledger.answer(_answer(job, picture))


def _answer(job: Job, picture: GeneratedImage) -> Answer:
    return Answer(
        job.id,
        str(uuid4()),
        picture.job_id,
        PICTURE,
        picture.sha256,
        job.fault_of(picture.data, picture.seed),
        picture.replayed,
    )
