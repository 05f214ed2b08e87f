"""The fault: a typed error as a value, and the exception that stops a start."""

from dataclasses import dataclass

from schemas.errors import ERRORS, ErrorCode, ErrorInfo, Problem

EXIT_TEMPORARY = 75
"""sysexits.h EX_TEMPFAIL: a restart may help."""
EXIT_CONFIG = 78
"""sysexits.h EX_CONFIG: a restart does not help."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, in the words that the caller reads."""

    code: ErrorCode
    message: str
    details: tuple[Problem, ...] = ()

    @property
    def retryable(self) -> bool:
        """The same request may be sent again, unchanged."""
        return ERRORS[self.code].retryable

    def info(self) -> ErrorInfo:
        """Return the error as it stands in a reply."""
        return ErrorInfo(
            code=self.code,
            message=self.message,
            retryable=self.retryable,
            details=self.details,
        )


class StartRefusedError(Exception):
    """The service cannot start; `sentences` say why and what to do."""

    def __init__(self, *sentences: str, exit_code: int = EXIT_CONFIG) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences
        self.exit_code = exit_code
