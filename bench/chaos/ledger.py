"""The ledger: what was asked and what came of it, in Jepsen's words for queues. Pure bookkeeping."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

PICTURE = "picture"
LATE_S = 5.0
"""After a deadline: time for the service's own word on it."""


class Word(StrEnum):
    """What the asker knows of its request."""

    ATTEMPTED = "attempted"
    """Sent; whether it arrived is not known."""
    CONFIRMED = "confirmed"
    """The broker has it: from now on it must be answered."""
    REFUSED = "refused"
    """The asker was told that nobody has it."""


class Face(StrEnum):
    """Through what it was asked."""

    WIRE = "wire"
    LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `deadline` on the asker's clock; `wants` are the ends that are right for it."""

    id: str
    job_id: str
    face: Face
    deadline: float
    wants: tuple[str, ...] = (PICTURE,)
    """Empty where no answer can arrive, because the caller is gone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A terminal answer as it came."""

    request_id: str
    reply_id: str
    """The reply's own message id: the same one twice is the broker's redelivery to us."""
    job_id: str
    kind: str
    """`picture` or the code of an error."""
    content: str
    """What must not differ between two answers to one request: the picture's hash, or the code."""
    fault: str = ""
    """What is wrong with the picture; empty if it is the one asked for."""
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row's counts."""

    attempted: int
    confirmed: int
    refused: int
    lost: tuple[str, ...]
    """Confirmed, and no terminal answer by the deadline."""
    duplicated_library: int
    """Answers beyond the first that a call of the library gave its caller."""
    duplicated_wire: int
    """Replies beyond the first for one request, on the wire."""
    unexpected: tuple[str, ...]
    """In sentences: an answer to nothing asked, of another job, with wrong bytes, or contradicting."""
    recovered: int
    """Never confirmed, and answered."""
    errors: dict[str, int]
    """Terminal answers that are not among those wanted, by code."""
    replays: int
    pictures: int
    """Requests that have one."""


@dataclass(slots=True)
class Ledger:
    """The books of one row."""

    asked: dict[str, Asked] = field(default_factory=dict)
    words: dict[str, Word] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    on_the_wire: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Reply ids by correlation id, of both faces."""

    def ask(self, asked: Asked) -> None:
        """Write down an attempt."""
        self.asked[asked.id] = asked
        self.words[asked.id] = Word.ATTEMPTED

    def tell(self, request_id: str, word: Word) -> None:
        """Write down what the asker learned of its request."""
        self.words[request_id] = word

    def reply_seen(self, correlation_id: str, reply_id: str) -> None:
        """Write down a reply that passed on the wire."""
        self.on_the_wire[correlation_id].add(reply_id)

    def answer(self, answer: Answer) -> None:
        """Write down an answer; a redelivery of the same reply counts once."""
        known = {earlier.reply_id for earlier in self.answers[answer.request_id]}
        if answer.reply_id not in known:
            self.answers[answer.request_id].append(answer)

    def waiting(self, now: float) -> list[Asked]:
        """Return what must still be answered and may yet be."""
        return [asked for asked in self._unanswered() if asked.deadline > now]

    def pictures(self) -> int:
        """Return how many requests have a picture."""
        return sum(
            any(answer.kind == PICTURE for answer in answers)
            for answers in self.answers.values()
        )

    def verdict(self) -> Verdict:
        """Return the counts, when all is over."""
        words = Counter(self.words.values())
        return Verdict(
            attempted=len(self.asked),
            confirmed=words[Word.CONFIRMED],
            refused=words[Word.REFUSED],
            lost=tuple(asked.id for asked in self._unanswered()),
            duplicated_library=sum(
                len(answers) - 1
                for request_id, answers in self.answers.items()
                if self._face(request_id) is Face.LIBRARY
            ),
            duplicated_wire=sum(len(replies) - 1 for replies in self.on_the_wire.values()),
            unexpected=tuple(self._unexpected()),
            recovered=sum(
                self.words.get(request_id) is Word.ATTEMPTED for request_id in self._answered()
            ),
            errors=self._errors(),
            replays=sum(
                answer.replayed for answers in self.answers.values() for answer in answers
            ),
            pictures=self.pictures(),
        )

    def _face(self, request_id: str) -> Face | None:
        asked = self.asked.get(request_id)
        return asked.face if asked else None

    def _answered(self) -> list[str]:
        return [request_id for request_id, answers in self.answers.items() if answers]

    def _unanswered(self) -> list[Asked]:
        return [
            asked
            for asked in self.asked.values()
            if self.words[asked.id] is Word.CONFIRMED
            and asked.wants
            and not self.answers.get(asked.id)
        ]

    def _errors(self) -> dict[str, int]:
        return dict(
            Counter(
                answer.kind
                for request_id, answers in self.answers.items()
                for answer in answers[:1]
                if request_id in self.asked and answer.kind not in self.asked[request_id].wants
            )
        )

    def _unexpected(self) -> list[str]:
        sentences = []
        for request_id, answers in self.answers.items():
            asked = self.asked.get(request_id)
            if asked is None:
                sentences.append(f"{request_id}: answered and never asked")
            else:
                sentences += _wrong(asked, answers)
        return sentences


def _wrong(asked: Asked, answers: Sequence[Answer]) -> list[str]:
    """Return in sentences what is wrong with the answers to one request."""
    sentences = [f"{asked.id}: {answer.fault}" for answer in answers if answer.fault]
    sentences += [
        f"{asked.id}: the answer is of job {answer.job_id}, not {asked.job_id}"
        for answer in answers
        if asked.job_id and answer.job_id != asked.job_id
    ]
    if len({answer.content for answer in answers}) > 1:
        kinds = ", ".join(answer.kind for answer in answers)
        sentences.append(f"{asked.id}: answers that contradict each other: {kinds}")
    return sentences
