"""The rules that every message model shares: strict types, no unknown fields, frozen."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

JOB_ID_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"

JobId = Annotated[
    str,
    StringConstraints(pattern=JOB_ID_PATTERN),
]
"""Names a job and is its idempotency key: 1 to 128 of A-Z, a-z, 0-9, `_` and `-`."""


class Contract(BaseModel):
    """Base of all messages. A number is never taken for a string, nor a string for a number."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )
