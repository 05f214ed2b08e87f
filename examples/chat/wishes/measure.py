"""The measure: how well the rules read the labelled messages. python -m examples.chat.wishes.measure.

Prints the figures of both parts, and the mistakes of the one that rules may be mended by.
"""

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from examples.chat.wishes.wish import wish_in

MESSAGES = Path(__file__).with_name("messages.tsv")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A message and what a person says that it asks for."""

    language: str
    wish: bool
    size: str
    seed: str
    count: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether no rule may be mended by it: fixed by the text alone."""
        return hashlib.sha256(self.text.encode()).digest()[0] % 3 == 0

    @property
    def found(self) -> bool:
        return wish_in(self.text) is not None

    @property
    def details_right(self) -> bool:
        """Whether size, seed and count of a wish are read as labelled."""
        wish = wish_in(self.text)
        if wish is None:
            return False
        size = f"{wish.width}x{wish.height}" if wish.width else ""
        seed = "" if wish.seed is None else str(wish.seed)
        return (size, seed, wish.count) == (self.size, self.seed, int(self.count or 1))


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares from 0 to 1, and of how many messages."""

    messages: int
    precision: float
    """Of what was taken for a wish, what is one."""
    recall: float
    """Of the wishes, what was taken for one."""
    details: float
    """Of the wishes found, those whose size, seed and count are right."""


def labelled() -> list[Labelled]:
    """Return all messages of the file."""
    with MESSAGES.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Labelled(
                row["language"],
                row["wish"] == "yes",
                row["size"],
                row["seed"],
                row["count"],
                row["text"],
            )
            for row in rows
        ]


def figures(messages: Iterable[Labelled]) -> Figures:
    """Measure the rules by these messages."""
    told = list(messages)
    wishes, found = [m for m in told if m.wish], [m for m in told if m.found]
    right = [message for message in wishes if message.found]
    return Figures(
        len(told),
        len(right) / len(found),
        len(right) / len(wishes),
        sum(message.details_right for message in right) / len(right),
    )


def mistaken(message: Labelled) -> bool:
    """Whether the rules read it in another way than the person did."""
    return message.found != message.wish or (message.wish and not message.details_right)


def main() -> None:
    """Print the figures, and the mistakes that may be looked at."""
    everything = labelled()
    for name, held_out in (("tuned", False), ("held out", True)):
        of = figures(message for message in everything if message.held_out is held_out)
        print(
            f"{name:<9} {of.messages} messages: precision {of.precision:.3f},"
            f" recall {of.recall:.3f}, details {of.details:.3f}"
        )
    for message in everything:
        if not message.held_out and mistaken(message):
            print(
                f"{'wish' if message.wish else 'talk'}: {message.text} -> {wish_in(message.text)}"
            )


if __name__ == "__main__":
    main()
