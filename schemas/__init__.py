"""The contract: what travels between a chat backend and the service, as strict models."""

from schemas.control import Cancel, ControlMessage, Done, StatusQuery
from schemas.errors import ERRORS, ErrorCode, ErrorInfo, ErrorSpec, Problem
from schemas.events import JobEvent
from schemas.reply import GenerationError, GenerationResult, ResultFacts, Timings
from schemas.request import GenerationRequest
from schemas.sizes import LISTED_SIZES, drawn_size

__all__ = [
    "ERRORS",
    "LISTED_SIZES",
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
    "Problem",
    "ResultFacts",
    "StatusQuery",
    "Timings",
    "drawn_size",
]
