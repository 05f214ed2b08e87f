"""What a sentence asks for, and what the grammars of all languages are put together of. Pure."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be drawn, in the words of the sentence."""

    subject: str
    """Empty where the next sentences have to tell it."""
    count: int | None = None
    """How many pictures, where it is said."""
    complete: bool = True
    """Whether it may stand alone; a bare "portrait" may not."""


def one_of(words: str) -> str:
    """Return the pattern for one of these words, which blanks part."""
    return f"(?:{'|'.join(words.split())})"


def phrase(*parts: str) -> re.Pattern[str]:
    """Return the pattern for a sentence of these parts, whatever ends it."""
    return re.compile("".join(parts) + r"$", re.IGNORECASE | re.DOTALL)


def anchored(*beginnings: str) -> re.Pattern[str]:
    """Return the pattern for what begins like one of these."""
    return re.compile("|".join(beginnings), re.IGNORECASE)
