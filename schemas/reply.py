"""The reply: exactly one terminal answer per request, a result or an error."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Contract, JobId
from schemas.errors import ErrorInfo
from schemas.request import OutputFormat

RESULT_TYPE = "imagegen.result.v1"
ERROR_TYPE = "imagegen.error.v1"
MAX_REPLY_BYTES = 12 * 1024 * 1024

ACCEPT_HEADER = "x-imagegen-accept"
FIELD_HEADER_PREFIX = "x-imagegen-"

Seconds = Annotated[float, Field(ge=0.0)]


class Timings(Contract):
    """Where the time went, in seconds."""

    queued: Seconds
    """From the publish to the start of the job; AMQP timestamps are whole seconds, so up to 1 too much."""
    text_encode: Seconds
    denoise: Seconds
    vae_decode: Seconds
    encode: Seconds


class ResultFacts(Contract):
    """Everything that is told of a picture beside the picture."""

    job_id: JobId
    width: int
    """Pixels, as drawn."""
    height: int
    """Pixels, as drawn."""
    seed: int
    prompt: str
    generation_time: Seconds
    """Seconds from the start of the job's turn on the GPU to the encoded image."""
    format: OutputFormat
    sha256: str
    """Of the image's bytes, in lower-case hexadecimal."""
    model: str
    forwards: int
    """Passes through the transformer that were run and counted."""
    attempt: int
    """1 for the first start of the job."""
    replayed: bool
    """The picture was drawn for an earlier delivery of this job and stored."""
    worker: str
    timings: Timings


class GenerationResult(ResultFacts):
    """The reply of a success, type `imagegen.result.v1`."""

    success: Literal[True]
    image_base64: str


class GenerationError(Contract):
    """The reply of a failure, type `imagegen.error.v1`."""

    success: Literal[False]
    job_id: JobId
    error: ErrorInfo
