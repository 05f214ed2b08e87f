"""The contract: what travels between a chat backend and the service, as strict models."""

from schemas.control import Cancel, ControlMessage, Done, JobsQuery, StatusQuery
from schemas.errors import ERRORS, ErrorCode, ErrorInfo, ErrorSpec, Problem
from schemas.events import JobEvent
from schemas.http import Accepted, ProblemDetails
from schemas.reply import GenerationError, GenerationResult, ResultFacts, Timings
from schemas.request import GenerationRequest
from schemas.sizes import LISTED_SIZES, drawn_size
from schemas.status import JobList, JobStatus

__all__ = [
    "ERRORS",
    "LISTED_SIZES",
    "Accepted",
    "Cancel",
    "ControlMessage",
    "Done",
    "ErrorCode",
    "ErrorInfo",
    "ErrorSpec",
    "GenerationError",
    "GenerationRequest",
    "GenerationResult",
    "JobEvent",
    "JobList",
    "JobStatus",
    "JobsQuery",
    "Problem",
    "ProblemDetails",
    "ResultFacts",
    "StatusQuery",
    "Timings",
    "drawn_size",
]
