"""The sentences of a message, in the one spelling that the rules know. Pure."""

import re
import unicodedata

_TRADITIONAL = "畫請幫給圖張個產創製設計橫豎種縱繪麼嗎紙誌後來這為臉寫現樣幾兩"
_SIMPLIFIED = "画请帮给图张个产创制设计横竖种纵绘么吗纸志后来这为脸写现样几两"
_ONE_SPELLING = str.maketrans(
    dict(zip(_TRADITIONAL, _SIMPLIFIED, strict=True))
    | dict.fromkeys("\u2019\u2018`\u00b4", "'")
)
_END = re.compile(r"(?<=[!?。])\s*|(?<=\.)\s+|(?<=\.)$|\n+")
_QUOTES = '"“”„«»「」『』'
_QUOTED = re.compile(rf"^[{_QUOTES}]([^{_QUOTES}]+)[{_QUOTES}](.*)$", re.DOTALL)


def tidied(text: str) -> str:
    """Return the message with full-width signs made plain and blanks made single."""
    lines = (" ".join(line.split()) for line in unicodedata.normalize("NFKC", text).split("\n"))
    return "\n".join(line for line in lines if line)


def one_spelling(text: str) -> str:
    """Return it with traditional characters simplified: as long, so that places stay places."""
    return text.translate(_ONE_SPELLING)


def unquoted(text: str) -> str | None:
    """Return the words of a message that is one quotation; None where it goes on about it."""
    quoted = _QUOTED.match(text)
    if quoted is None:
        return text
    return None if quoted[2].strip(" .!") else quoted[1]


def sentences(text: str) -> list[str]:
    """Return the sentences, each with the sign that ends it."""
    return [part.strip() for part in _END.split(text) if part.strip(" .!?,;")]


def has_chinese(text: str) -> bool:
    """Whether Chinese characters stand in it."""
    return any("\u4e00" <= character <= "\u9fff" for character in text)
