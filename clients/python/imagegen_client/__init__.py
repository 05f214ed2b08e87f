"""The client of imagegen: `await client.generate("A sunset over mountains")`."""

from imagegen_client.client import ImageClient
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
from imagegen_client.job import Job
from imagegen_client.retry import Retry
from imagegen_client.status import JobStatus

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
