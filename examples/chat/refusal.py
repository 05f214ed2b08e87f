"""The refusal: what a request is answered where it cannot be done, in a sentence for people."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a defect
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after_s = retry_after_s
