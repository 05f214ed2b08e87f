"""What keeps a model from being had: a code, and a sentence with the remedy."""

from typing import Literal

Code = Literal[
    "not_found",
    "gated",
    "unauthorized",
    "offline",
    "unreachable",
    "no_space",
    "not_writable",
    "corrupt",
    "unsupported",
]


class ModelTroubleError(Exception):
    """The model cannot be had, or is not whole."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
