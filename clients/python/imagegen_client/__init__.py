"""The client of imagegen: `await client.generate("A sunset over mountains")`."""

from typing import TYPE_CHECKING

from imagegen_client.errors import (
    Busy,
    Cancelled,
    DeadlineExceeded,
    GenerationFailed,
    ImageError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from imagegen_client.image import GeneratedImage, Progress
from imagegen_client.retry import Retry
from imagegen_client.status import JobStatus

if TYPE_CHECKING:
    from imagegen_client.client import ImageClient
    from imagegen_client.job import Job

__all__ = [
    "Busy",
    "Cancelled",
    "DeadlineExceeded",
    "GeneratedImage",
    "GenerationFailed",
    "ImageClient",
    "ImageError",
    "InvalidRequest",
    "Job",
    "JobStatus",
    "NotFound",
    "Progress",
    "Retry",
    "Unavailable",
]


def __getattr__(name: str) -> object:
    """Import what speaks AMQP when it is asked for: the errors alone should cost no aio-pika."""
    if name == "ImageClient":
        from imagegen_client.client import ImageClient  # noqa: PLC0415

        return ImageClient
    if name == "Job":
        from imagegen_client.job import Job  # noqa: PLC0415

        return Job
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
