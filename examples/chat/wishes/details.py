"""The details of a wish: size, orientation and seed as the words tell them. Pure."""

import re
from dataclasses import dataclass, replace

LANDSCAPE, PORTRAIT, SQUARE = (1280, 720), (720, 1280), (1024, 1024)
RATIOS = {
    "16:9": LANDSCAPE,
    "9:16": PORTRAIT,
    "1:1": SQUARE,
    "4:3": (1024, 768),
    "3:4": (768, 1024),
}
ORIENTATIONS = {
    "landscape": LANDSCAPE,
    "horizontal": LANDSCAPE,
    "widescreen": LANDSCAPE,
    "wide": LANDSCAPE,
    "portrait": PORTRAIT,
    "vertical": PORTRAIT,
    "tall": PORTRAIT,
    "upright": PORTRAIT,
    "square": SQUARE,
    "quer": LANDSCAPE,
    "hoch": PORTRAIT,
    "quadrat": SQUARE,
    "横": LANDSCAPE,
    "宽": LANDSCAPE,
    "竖": PORTRAIT,
    "纵": PORTRAIT,
    "正方": SQUARE,
    "方": SQUARE,
}
"""What a word says of the sides, by its beginning; pixels, width and height."""


@dataclass(frozen=True, slots=True)
class Details:
    """What a message says besides its subject; None where it says nothing."""

    size: tuple[int, int] | None = None
    """Width and height in pixels, as asked for; the service says which it draws."""
    seed: int | None = None


_ENGLISH = "landscape|horizontal|widescreen|wide|portrait|vertical|tall|upright|square"
_ALONE = r"(?:(?<=^)|(?<=[,.;:(]))\s*"
"""A word that stands by itself, between commas or at an end."""
_UP_TO = r"(?=\s*(?:[,.;:)!?]|$|please\b|bitte\b))"

_SEED = re.compile(
    r"(?:\b(?:with|using|use|and|mit|und)\s+)?(?:\b(?:the|a|random|dem|der)\s+){0,3}"
    r"(?:\bseed|\bstartwert|(?:用|使用|随机){0,3}种子[数值]?)\s*"
    r"(?:[:=#]|\b(?:is|of|number|ist|no\.?|nr\.?)\b|[为是用])?\s*(?P<seed>\d{1,18})(?!\d)",
    re.IGNORECASE,
)
_PIXELS = re.compile(
    r"(?:\b(?:in|at|of|with|size|resolution|a|the|mit|der|größe|auflösung|大小|尺寸)[\s:=]*+){0,4}+"
    r"(?<!\d)(?P<width>\d{3,4})\s*(?:x|\u00d7|\*|\bby\b|\bmal\b|乘以?)\s*(?P<height>\d{3,4})(?!\d)"
    r"(?:\s*(?:px|pixels?|像素)(?![a-z]))?的?",
    re.IGNORECASE,
)
_RATIO = re.compile(
    r"(?:\b(?:in|at|with|a|an|im|the|aspect|ratio|format|verhältnis)\s+){0,4}+"
    r"(?<!\d)(?P<ratio>16:9|9:16|4:3|3:4|1:1)(?!\d)(?:\s*(?:format|aspect ratio|比例))?的?",
    re.IGNORECASE,
)
_ORIENTATIONS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        (
            rf"\b(?:in|as|with|using)?\s*(?:\b(?:a|an|the)\s+)?\b(?P<word>{_ENGLISH})[ -]"
            r"(?:format|orientation|mode|aspect|layout)\b(?:\s+ratio)?"
        ),
        r"\bin\s+(?P<word>landscape|portrait|widescreen)\b(?!\s+(?:with|of|by))",
        rf"{_ALONE}(?:as\s+)?(?P<word>{_ENGLISH}){_UP_TO}",
        rf"\b(?P<word>{_ENGLISH})\s+(?=(?:image|picture|pic)s?\b)",
        r"\b(?:im|in|als)?\s*\b(?P<word>quer|hoch)(?:format(?:ig)?|kant)\b(?:es|e)?",
        rf"{_ALONE}(?P<word>quer){_UP_TO}",
        r"(?:\bals\s+)?\b(?P<word>quadrat)(?:isch(?:e[snm]?)?)\b",
        r"\bim (?P<word>quadrat)\b",
        r"(?:用|以|做成)?(?P<word>[横竖纵])(?:版|向|屏|构图)的?(?:构图)?",
        r"(?P<word>宽)屏的?",
        r"(?P<word>正?方)(?:形|版)?的?(?=图|照|构图)(?:构图)?",
        rf"{_ALONE}(?P<word>正方形|方形|方图|横图|竖图|横|竖){_UP_TO}",
    )
)


def taken_out(text: str) -> tuple[Details, str]:
    """Return the details and the text without them; the first of each kind counts."""
    details = Details()
    seed = _SEED.search(text)
    if seed is not None:
        details, text = replace(details, seed=int(seed["seed"])), _without(text, seed)
    found = _first_size(text)
    if found is not None:
        match, size = found
        details, text = replace(details, size=size), _without(text, match)
    return details, text


def _first_size(text: str) -> tuple[re.Match[str], tuple[int, int]] | None:
    """Return where the size stands and what it is: numbers first, then proportions, then words."""
    if pixels := _PIXELS.search(text):
        return pixels, (int(pixels["width"]), int(pixels["height"]))
    if ratio := _RATIO.search(text):
        return ratio, RATIOS[ratio["ratio"]]
    for pattern in _ORIENTATIONS:
        if word := pattern.search(text):
            return word, _sides(word["word"])
    return None


def _sides(word: str) -> tuple[int, int]:
    return next(size for start, size in ORIENTATIONS.items() if word.lower().startswith(start))


def _without(text: str, match: re.Match[str]) -> str:
    """Return the text without a piece and without the commas and brackets that it leaves behind."""
    rest = text[: match.start()] + text[match.end() :]
    rest = re.sub(r"\(\s*[,;]?\s*\)", "", rest)
    rest = re.sub(r"\(\s*,\s*", "(", rest)
    rest = re.sub(r"\s*,\s*(?=[,.;:!?)]|$)", "", rest)
    rest = re.sub(r"(?<=[.!?])\s*\.", "", rest)
    return re.sub(r"[ \t]{2,}", " ", rest).strip(" ,;")
