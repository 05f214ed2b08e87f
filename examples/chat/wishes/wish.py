"""The wish: what a message asks to be drawn, or that it asks for nothing. Pure."""

import re
from dataclasses import dataclass

from examples.chat.wishes import chinese, english, german
from examples.chat.wishes.asked import Asked
from examples.chat.wishes.details import Details, taken_out
from examples.chat.wishes.sentences import (
    has_chinese,
    one_spelling,
    sentences,
    tidied,
    unquoted,
)

MOST_COUNT = 4
"""Pictures of one message. More would keep everybody else waiting."""

_COURTESY = re.compile(
    r"(?:[\s,;.!?-]*+(?:\b(?:please|pls|plz|thanks(?: a lot)?|thank you(?: very much)?|if you can"
    r"|bitte(?: schön)?|danke(?: schön)?|vielen dank)\b|谢谢[你您]?|多谢|拜托了?))+[\s,;.!?~]*$",
    re.IGNORECASE,
)
_FOR_ME = re.compile(r"\s+(?:for me|für mich)$", re.IGNORECASE)
_POLITE = re.compile(
    r"\b(?:please|pls|plz|thanks|thank you|bitte|danke)\b|谢谢|麻烦", re.IGNORECASE
)
_REFERS = re.compile(
    r"(?:it|this|that|them|her|him|one|sie|ihn|es)\b|eine?n?s?(?:,|$)|[他她它]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be drawn. What the message says nothing of is None: the service decides."""

    prompt: str
    width: int | None = None
    """Pixels."""
    height: int | None = None
    """Pixels."""
    seed: int | None = None
    count: int = 1
    """How many pictures, 1 to MOST_COUNT."""


def wish_in(message: str) -> Wish | None:
    """Return what a message asks for; None where it is ordinary talk."""
    text = unquoted(tidied(message))
    if text is None:
        return None
    welcome = _POLITE.search(text) is not None
    details, text = taken_out(text)
    parts = sentences(text)
    for place, part in enumerate(parts):
        asked = _asked(part, welcome=welcome or details != Details())
        prompt = None if asked is None else _prompt(asked, parts[:place], parts[place + 1 :])
        if asked is not None and prompt:
            width, height = details.size or (None, None)
            count = min(asked.count or 1, MOST_COUNT)
            return Wish(prompt, width, height, details.seed, max(count, 1))
    return None


def _asked(sentence: str, *, welcome: bool) -> Asked | None:
    """Ask the grammar of its language; English and German share their letters."""
    trimmed = _trimmed(sentence)
    grammars = (chinese,) if has_chinese(trimmed) else (english, german)
    spelled = one_spelling(trimmed)
    return next(
        (found for grammar in grammars if (found := grammar.asked(spelled, welcome=welcome))),
        None,
    )


def _prompt(asked: Asked, before: list[str], after: list[str]) -> str:
    """Return the words to draw from; what only points back takes what it points at along."""
    told = [sentence for sentence in after if _trimmed(sentence)]
    if not asked.complete and not told:
        return ""
    subject = _trimmed(asked.subject)
    context = before if subject and _REFERS.match(subject) else []
    words = [*context, subject, *(_COURTESY.sub("", sentence) for sentence in told)]
    return _joined([word for word in words if word.strip(" .!?,")])


def _joined(words: list[str]) -> str:
    text = ""
    for word in words:
        text = f"{text}{'' if text[-1:] in '.!?' else '.'} {word}" if text else word
    return text.strip(" ,;")


def _trimmed(sentence: str) -> str:
    """Return a sentence without the sign that ends it and the courtesy before that."""
    bare = _COURTESY.sub("", sentence.strip()).rstrip(" .!?,;~")
    return _FOR_ME.sub("", bare).strip()
