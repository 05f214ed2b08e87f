"""German: which sentences ask for a picture, and what of. Pure.

As in English a wish begins its sentence, but the verb may end it: "Kannst du mir eine Katze malen?"
"""

import re

from examples.chat.wishes.asked import Asked, anchored, one_of, phrase

_PLAIN = one_of("bild bilder")
_NOUNS = (
    r"(?:bild(?:er|chen)?|fotos?|fotografien?|zeichnung(?:en)?|illustration(?:en)?|skizzen?"
    r"|aquarelle?|\w*gemälde|poster|plakate?|logos?|icons?|portr[äa]i?ts?|wallpapers?|comics?"
    r"|cartoons?|karikatur(?:en)?|avatare?|banner|sticker|\w+(?:bild|foto|zeichnung|plakat))"
)
_COUNTS = {"zwei": 2, "drei": 3, "vier": 4, "ein paar": 3}
_COUNT = rf"(?:(?P<count>\d{{1,2}}|{'|'.join(_COUNTS)})\s+)?"
_DETERMINER = r"(?:(?:noch )?(?:ein(?:e[nmrs]?)?|'ne?n?)\s+)?"
_NO_KIND = r"(?!(?:von|vom|mit|über|für|zu|aus|im|in|der|die|das|und|oder|docker)\b)"
_KIND = rf"(?P<kind>(?:{_NO_KIND}[\w'-]+\s+){{0,4}}?)"
# Without an order before it, what says "ich" or "das" tells of a picture.
_NO_BARE = r"(?!(?:ich|du|wir|er|sie|es|ihr|man|das|dieses|mein\w*|kein\w*|habe?|hat|mag)\b)"
_BARE_KIND = _KIND.replace(_NO_KIND, _NO_KIND + _NO_BARE)
_PHRASE = _DETERMINER + _COUNT + _KIND + rf"(?P<noun>{_NOUNS})\b"
_LINK = r"(?:von|vom|mit|über|für|eine[rs]|der|des|zu|zum|aus|auf dem|in dem|wo|das|wie|im)\b"
_SUBJECT = rf"(?:\s+(?P<link>{_LINK})|\s*(?P<sign>[:,-]))\s*(?P<subject>\S.*)"
_PERHAPS = rf"(?:{_SUBJECT})?"

_HELLO = (
    r"(?:(?:hallo|hi|hey|guten (?:tag|morgen|abend)|ok(?:ay)?|jetzt|nun|dann|so|also|bitte|danke|und"
    r"|ja|gut|super|prima|als nächstes|doch|nochmal|noch einmal|zuerst|heute)\b[\s,!:.-]*+){0,6}"
)
_FOR = (
    r"(?:\s+(?:mir|uns|ihm|ihr|ihnen|bitte|doch|mal|jetzt|nun|einfach|schnell|kurz|noch|auch"
    r"|vielleicht|gerne?|für (?:mich|uns)|meine[rm] (?:tochter|sohn|frau|mann|mutter|vater))){0,5}"
)
_STRONG = (
    r"(?:male|malt|malen sie|malst du|zeichnet?|zeichne[nt] sie|zeichnest du|skizziere?"
    r"|skizzierst du|illustriere?|pinsele?|kritzele?)"
)
_WEAK = (
    r"(?:erstelle?|erstellen sie|erstellst du|erzeuge?|erzeugen sie|generiere?|generieren sie|mache?"
    r"|machen sie|machst du|zeige?|zeigen sie|gib|geben sie|entwirf|entwerfe|entwerfen sie|kreiere?"
    r"|gestalte?|gestalten sie|produziere?|mal|male|zeichne|skizziere)"
)
_MODAL = r"(?:lass(?:t)? uns|(?:kannst|könntest|würdest|magst|willst|können|könnten|würden)\s+(?:du|sie|ihr))"
_DRAW_END = r"(?:zeichnen|malen|skizzieren|illustrieren)"
_MAKE_END = (
    r"(?:erstellen|erzeugen|generieren|machen|zeigen|geben|entwerfen|gestalten|kreieren"
    r"|zeichnen|malen|skizzieren)"
)
_THAT = (
    r"(?:ich|wir) (?:möchten?|will|wollen|wünsche mir|hätten?(?: gerne?)?),? dass (?:du|sie)"
)
_THAT_END = r"(?:zeichnest|malst|skizzierst|illustrierst|zeichnen|malen)"
_THAT_MADE = r"(?:erstellst|erzeugst|generierst|machst|entwirfst|zeichnest|malst|erstellen)"
_WANT = (
    r"(?:(?:ich|wir) (?:hätten?|möchten?|bräuchten?|brauchen?|will|wollen|wünschen? (?:mir|uns))"
    r"|wie (?:wäre es|wär's|wäre|wärs) mit)"
)
_HAVE = r"(?:(?:kann|könnte|dürfte|darf|können|könnten) (?:ich|wir)|lass(?:t)? (?:mich|uns))"
_HAVE_END = r"(?:haben|bekommen|kriegen|sehen)"
_THING = (
    r"(?:ein(?:e[nmrs]?)?|'?ne[nmr]?|d(?:en|ie|as|em)|zwei|drei|vier|fünf|sechs|mehrere|mein\w*|unser\w*"
    r"|dies\w*|etwas|\d+)\s"
)
_NAME = r"(?-i:[A-ZÄÖÜ][a-zäöüß])"

_NO_OBJECT = anchored(
    r"(?:nicht|nichts|kein\w*|nie|und|oder|aber|wie|wenn|ob|dass|gern|gut|besser|sich|dir|dich)\b",
    r"(?:noch |bitte |mehr )*(?:nicht|nichts|kein\w*)\b",
    r"(?:\w+ )?(?:\w+ )?(?:vertrag|ablauf|plan|idee|konzept|argument|beweis|aktien?|schluss|schlüsse"
    r"|strategie|lösung|gliederung|rede|anleihen?)\b",
    r"(?:es|das|ihn|sie|eins|einen|eine)\W*$",
    r".* (?:nicht|gegen|ab|weiter)\W*$",
    r"hand aufs herz\b",
)
_NO_SUBJECT = anchored(r"der (?:lage|situation)\b", r"davon\b")
_FINITE = re.compile(
    r"\b(?:ist|sind|war|waren|hat|haben|hatte|hängt|hing|sagt|zeigt|wird|wurde|kann|macht|gibt|liegt"
    r"|steht|kostet|gefällt|ging|geht)\b",
    re.IGNORECASE,
)

_DRAWN = phrase(_HELLO, _STRONG, _FOR, r"\s*[:,]?\s+", r"(?P<subject>\S.*)")
# "Mal" is a word for "once" as well: then no thing comes after it.
_DRAWN_ONCE = phrase(_HELLO, r"mal", _FOR, r"\s+", rf"(?P<subject>(?:{_THING}|{_NAME}).*)")
_CAN_DRAW = phrase(
    _HELLO, _MODAL, _FOR, r"\s+", rf"(?P<subject>(?:{_THING}|{_NAME}\w+ (?:auf|mit|in|im|am|vor)\s).*)",
    rf"\s+{_DRAW_END}",
)  # fmt: skip
_CAN_MAKE = phrase(
    _HELLO, _MODAL, _FOR, r"\s+", rf"(?={_THING})", _PHRASE, _PERHAPS, rf"\s+{_MAKE_END}"
)
_SHALL_DRAW = phrase(
    _HELLO, _THAT, _FOR, r"\s+", rf"(?P<subject>{_THING}.*)", rf"\s+{_THAT_END}"
)
_SHALL_MAKE = phrase(_HELLO, _THAT, _FOR, r"\s+", _PHRASE, _PERHAPS, rf"\s+{_THAT_MADE}")
_MADE = phrase(_HELLO, _WEAK, _FOR, r"\s+", _PHRASE, _PERHAPS)
_WANTED = phrase(_HELLO, _WANT, _FOR, r"\s+", _PHRASE, _SUBJECT)
_HAD = phrase(_HELLO, _HAVE, _FOR, r"\s+", _PHRASE, _SUBJECT, rf"\s+{_HAVE_END}")
_NAMED = phrase(
    _HELLO, r"(?P<article>(?:noch )?ein(?:e[nms]?)?\s+)?", _COUNT, _BARE_KIND, rf"(?P<noun>{_NOUNS})\b", _SUBJECT
)  # fmt: skip
_SHOWN = phrase(_HELLO, r"stelle?", _FOR, r"\s+(?P<subject>.+?)(?:\s+als bild)?\s+dar")
_CLAUSE = re.compile(
    r"(?:,\s*(?:also|darum|deshalb|daher|dann|bitte)|:)\s+(?=\w)", re.IGNORECASE
)


def asked(sentence: str, *, welcome: bool) -> Asked | None:
    """Return what a sentence asks for; `welcome`: "bitte", a size or a seed goes with it."""
    return (
        _pictured(sentence)
        or _ordered(sentence)
        or _named(sentence, welcome=welcome)
        or _in_a_clause(sentence)
    )


def _ordered(sentence: str) -> Asked | None:
    """Zeichne, male, kannst du ... malen: whatever it is, but for sayings and capabilities."""
    for pattern in (_DRAWN, _DRAWN_ONCE, _CAN_DRAW, _SHALL_DRAW, _SHOWN):
        found = pattern.match(sentence)
        if found is not None and not _NO_OBJECT.match(found["subject"]):
            return Asked(found["subject"])
    return None


def _pictured(sentence: str) -> Asked | None:
    """Erstelle, mach, zeig, ich hätte gern: a picture has to be named, and what of."""
    for pattern in (_CAN_MAKE, _SHALL_MAKE, _MADE, _WANTED, _HAD):
        if found := pattern.match(sentence):
            return _phrased(found)
    return None


def _named(sentence: str, *, welcome: bool) -> Asked | None:
    """Nothing but the picture: "Bild von einem Fuchs", "ein Bild von einem Fuchs, bitte"."""
    found = _NAMED.match(sentence)
    if found is None or found["sign"] in {",", "-"}:
        return None
    told = found["article"] or _FINITE.search(sentence)
    return _phrased(found) if welcome or not told else None


def _in_a_clause(sentence: str) -> Asked | None:
    """The order comes after a comma and "also"."""
    _, *clauses = _CLAUSE.split(sentence)
    return next((order for clause in clauses if (order := _ordered(clause))), None)


def _phrased(found: re.Match[str]) -> Asked | None:
    """Keep the words for the kind of picture, as in "ein Aquarell von": they are part of it."""
    groups = found.groupdict()
    noun, kind = groups["noun"], groups["kind"].strip()
    link, subject = groups["link"] or "", (groups["subject"] or "").strip()
    if _NO_SUBJECT.match(subject):
        return None
    count = _number(groups["count"])
    if not kind and re.fullmatch(_PLAIN, noun, re.IGNORECASE) and link not in {"für", "wie"}:
        return Asked(subject, count)
    joint = groups["sign"] or (f" {link}" if link else "")
    return Asked(
        f"{kind} {noun}{joint} {subject}".strip(), count, complete=bool(subject or kind)
    )


def _number(words: str | None) -> int | None:
    if not words:
        return None
    return int(words) if words.isdecimal() else _COUNTS[words.lower()]
