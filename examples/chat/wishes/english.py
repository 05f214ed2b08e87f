"""English: which sentences ask for a picture, and what of. Pure.

A wish is an order, a polite question or a want, at the beginning of its sentence: who tells of
pictures, asks about them, or says what somebody else shall draw, begins in another way.
"""

import re

from examples.chat.wishes.asked import Asked, anchored, one_of, phrase

_NOUNS = one_of(
    "pictures? images? imgs? pics? photos? photographs? drawings? paintings? illustrations?"
    " sketch(?:es)? portraits? artworks? watercolou?rs? posters? logos? icons? wallpapers?"
    " cartoons? comics? doodles? stickers? avatars? banners? renderings? renders? caricatures? murals?"
    " memes?"
)
_FOR_USE = one_of("posters? logos? icons? wallpapers? stickers? avatars? banners?")
_NEUTRAL = one_of("pictures? images? imgs? pics?")
_DETERMINER = r"(?:(?:an?|another|one more|some|the|my|our|his|her|your|this|that)\s+)?"
_COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4, "a couple of": 2}
_COUNT = rf"(?:(?P<count>\d{{1,2}}|{'|'.join(_COUNTS)})\s+)?"
# What says of which kind the picture is. A preposition would begin another thing: a list of pictures.
_NO_KIND = (
    r"(?!(?:of|about|from|that|to|how|for|with|in|on|by|and|or|is|are|was|docker|disk|container"
    r"|iso|base|boot|vm|system|mirror|self|brand|public|body|big|bigger|full|whole|clear"
    r"|overall|complete)\b)"
)
_KIND = rf"(?P<kind>(?:{_NO_KIND}[\w'-]+\s+){{0,5}}?)"
# Without an order before it, what says "I" or "the" tells of a picture.
_NO_BARE = (
    r"(?!(?:i|you|we|he|she|it|they|the|my|your|our|his|her|their|this|these|who|do|did|no)\b)"
)
_BARE_KIND = _KIND.replace(_NO_KIND, _NO_KIND + _NO_BARE)
_PICTURE = rf"(?P<noun>{_NOUNS})\b"
_PHRASE = _DETERMINER + _COUNT + _KIND + _PICTURE
_LINK = r"(?:of|with|showing|that shows?|which shows?|depicting|featuring|about|where|in which|from)\b"
_SUBJECT = rf"\s*(?:(?P<link>{_LINK}|[:,-])\s*(?P<subject>\S.*))"
_PURPOSE = r"(?:\s+(?P<subject>(?:for|in|at|as|on)\b.*))?"

_HELLO = (
    r"(?:(?:hi|hello|hey(?: there)?|good (?:morning|evening|afternoon|day)|ok(?:ay)?|now|next|then|so|and|also"
    r"|well|great|cool|thanks|yes|sure|alright|please|pls|plz|kindly|just|maybe|again|first"
    r"|finally|oh|this time|today|if you can|do|go ahead and|try to)\b[\s,!:.-]*+){0,6}"
)
_SOFTLY = r"(?:(?:please|pls|maybe|perhaps|kindly|possibly|also|just|now|quickly|then)\s+){0,3}"
_YOU = r"(?:you|u|ya)"
_ORDER = (
    rf"(?:(?:can|could|would|will|won't) {_YOU}\s+(?:be able to\s+)?{_SOFTLY}"
    rf"|(?:is it possible|would it be possible) (?:for {_YOU} )?to\s+{_SOFTLY}"
    rf"|let(?:'s| us)\s+{_SOFTLY}"
    rf"|(?:i|we)(?: want| need|'d like|'d love| would (?:like|love)) {_YOU} to\s+{_SOFTLY})?"
)
_MIND = rf"would {_YOU} mind\s+"
_FOR = r"(?:\s+(?:me|us|him|her|them|my (?:daughter|son|wife|husband|mother|father|friend)))?"

_STRONG = r"(?P<verb>draw|sketch|paint|illustrate|depict|doodle)"
_STRONG_ING = r"(?P<verb>drawing|sketching|painting|illustrating|depicting)"
_WEAK = (
    r"(?:create|make|generate|produce|give|show|design|compose|get|put together|send|craft|try"
    r"|render|draw|paint|sketch)"
)
_WEAK_ING = r"(?:creating|making|generating|producing|showing|designing)"
_WANT = (
    r"(?:(?:i|we)(?: want| need|'d like|'d love| would (?:like|love)|'m looking for| could use)"
    r"(?: to (?:see|have|get))?|(?:can|could|may) (?:i|we) (?:please )?(?:get|have|see)"
    r"|let(?:'s| me| us)(?: please)? see|how about|what about)\s+"
)

# What may be drawn, painted or sketched without a picture coming of it.
_NO_OBJECT = anchored(
    r"(?:up|on|upon|out|from|into?|to|near|nearer|nigh|closer|back|away|and|or|but|is|was|are|as"
    r"|for|like|well|better|by|off|no|nothing|none|not|never|how|why|when|if|anything|everything"
    r"|lots|straws|breath|inspiration|criticism|attention|comparisons?|parallels?"
    r"|distinctions?|(?:water|money|blood|fire) from|conclusions?|inferences?)\b",
    r"(?:dries|drying|peels?|peeling)\b",
    r"(?:your|my|our|their|his|her|some|any|the|a|an|its) (?:\w+ )?(?:own conclusions?|attention"
    r"|conclusions?|inferences?|strength|inspiration|breath|salary|pension|distinction|comparison"
    r"|parallel|analogy|short straw|lottery|winner)\b",
    r"(?:your|his|her|their) (?:sword|gun|weapon)s?\W*$",
    r"(?:a|the|your|another|any) (?:blank|card)(?: from\b.*)?\W*$",
    r"(?:a|the) (?:clear |sharp |fine )?line(?: (?:under|between|at|somewhere|beneath)\b|\W*$)",
    r"the (?:curtains?|blinds?|shades?|drapes|shutters)(?! of)\b",
    r"(?:a|the) (?:\w+ )?(?:crowd|bath|audience)\W*$",
    r"(?:the|a|an|your|my|this|that|some) (?:\w+ )?(?:plan|proof|outline|argument|answer|points?"
    r"|idea|strategy|roadmap|contract|case|difference|concept|solution|examples?)\b",
    r"(?:the|my|our|your) (?:\w+ )?(?:walls?|kitchen|room|bedroom|bathroom|fence|door|ceiling"
    r"|garage|house)(?: \w+)?\W*$",
    r"(?:a|the) (?:\w+ )?picture of (?:how|why|the (?:situation|future|market|economy))\b",
    r"(?:it|this|that|them|one|these|those)\W*$",
    r"(?:this|that|these|those) (?:with|by|using)\b",
)
_TECHNICAL = re.compile(
    r"\b(?:in|with|using|by) (?:css|html|docker|react|python|svg|javascript|js|latex|pytorch|rust|java"
    r"|c\+\+|numpy|opencv|imagemagick|excel|sql|words|matplotlib)\b",
    re.IGNORECASE,
)
_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|got|gets|went|goes|hangs?|hung|won|wins|made|makes|shows?"
    r"|showed|can|will|would|do|does|did|appears?|looks?|means?|says?|said|helps?)\b",
    re.IGNORECASE,
)

_DRAWN = phrase(_HELLO, _ORDER, _STRONG, _FOR, r"(?:\s*[:,]\s*|\s+)", r"(?P<subject>\S.*)")
_DRAWING = phrase(_HELLO, _MIND, _STRONG_ING, _FOR, r"\s+", r"(?P<subject>\S.*)")
_RENDERED = phrase(
    _HELLO, _ORDER, r"render", _FOR, r"\s+", r"(?P<subject>(?:an?|two|three|some)\s.*)"
)
_MADE = phrase(
    _HELLO, rf"(?:{_ORDER}{_WEAK}|{_MIND}{_WEAK_ING})", _FOR, r"\s+", _PHRASE, _SUBJECT
)
_MADE_FOR = phrase(
    _HELLO, rf"(?:{_ORDER}{_WEAK}|{_MIND}{_WEAK_ING})", _FOR, r"\s+", _PHRASE, _PURPOSE
)
_MADE_BARE = phrase(
    _HELLO, _ORDER, r"(?:create|generate|make|produce)\s+", rf"(?P<noun>{_NEUTRAL})\s+",
    r"(?P<subject>(?!of\b)\w+\s.*)",
)  # fmt: skip
_WANTED = phrase(_HELLO, _WANT, _PHRASE, _SUBJECT)
_WANTED_FOR = phrase(
    _HELLO, _WANT, _PHRASE.replace(_NOUNS, _FOR_USE), r"\s+(?P<subject>for\b.*)"
)
_NAMED = phrase(
    _HELLO, r"(?P<article>(?:an?|another|one more)\s+)?", _COUNT, _BARE_KIND, _PICTURE, _SUBJECT
)
_COMMAND = phrase(r"/(?:imagine|draw|image|paint)\s+", r"(?P<subject>\S.*)")
_ANNOUNCED = phrase(r"(?:generate|create|draw|make)\s*:\s*", rf"(?P<subject>.*\b{_NOUNS}\b.*)")
_AFTER = phrase(
    r"(?P<subject>.+?)(?:,)?\s+(?:and|then|and then)\s+(?:please\s+)?(?:draw|paint|sketch) (?:it|this|that|them)\b.*"
)
_CLAUSE = re.compile(r"(?:,\s*(?:so|then|please|so please|now)|:)\s+(?=\w)", re.IGNORECASE)


def asked(sentence: str, *, welcome: bool) -> Asked | None:
    """Return what a sentence asks for; `welcome`: "please", a size or a seed goes with it."""
    if _TECHNICAL.search(sentence):
        return None
    return (
        _ordered(sentence)
        or _pictured(sentence)
        or _named(sentence, welcome=welcome)
        or _in_a_clause(sentence)
    )


def _ordered(sentence: str) -> Asked | None:
    """Draw, paint, sketch: whatever comes then is the subject, but for sayings."""
    if command := _COMMAND.match(sentence) or _ANNOUNCED.match(sentence):
        return Asked(command["subject"])
    drawn = _DRAWN.match(sentence) or _DRAWING.match(sentence) or _RENDERED.match(sentence)
    if drawn is None or _NO_OBJECT.match(drawn["subject"]):
        return None
    return _pictured(sentence) or Asked(drawn["subject"])


def _pictured(sentence: str) -> Asked | None:
    """Create, make, show, I want: a picture has to be named, and what of."""
    for pattern in (_MADE, _WANTED, _MADE_FOR, _WANTED_FOR):
        if found := pattern.match(sentence):
            return _phrased(found)
    bare = _MADE_BARE.match(sentence)
    return None if bare is None or _FINITE.search(bare["subject"]) else Asked(bare["subject"])


def _named(sentence: str, *, welcome: bool) -> Asked | None:
    """Nothing but the picture: "picture of a fox", "a picture of a fox, please"."""
    found = _NAMED.match(sentence)
    if found is None or found["link"] in {",", "-"}:
        return None
    told = found["article"] or _FINITE.search(sentence)
    return _phrased(found) if welcome or not told else None


def _in_a_clause(sentence: str) -> Asked | None:
    """The order comes after a comma and "so", or closes what was said: "... and draw it"."""
    if after := _AFTER.match(sentence):
        return Asked(re.sub(r"^imagine\s+", "", after["subject"], flags=re.IGNORECASE))
    before, *clauses = _CLAUSE.split(sentence)
    for clause in clauses:
        drawn = _DRAWN.match(clause)
        if drawn and re.match(r"(?:it|this|that|them|one)\b", drawn["subject"], re.IGNORECASE):
            return Asked(f"{before}, {drawn['subject']}")
        if order := _ordered(clause):
            return order
    return None


def _phrased(found: re.Match[str]) -> Asked | None:
    """Keep the words for the kind of picture, as in "an oil painting of": they are part of it."""
    groups = found.groupdict()
    noun, kind, link = groups["noun"], groups["kind"].strip(), groups.get("link") or ""
    subject = (groups["subject"] or "").strip()
    if re.match(r"(?:how|why|the situation)\b", subject, re.IGNORECASE):
        return None
    count = _number(groups["count"])
    if not kind and re.fullmatch(_NEUTRAL, noun, re.IGNORECASE):
        return Asked(subject, count)
    if count:
        noun = re.sub(r"(?<=ch)es$|s$", "", noun)
    joint = link if link in {":", ","} else f" {link}" if link else ""
    return Asked(
        f"{kind} {noun}{joint} {subject}".strip(), count, complete=bool(subject or kind)
    )


def _number(words: str | None) -> int | None:
    if not words:
        return None
    return int(words) if words.isdecimal() else _COUNTS[words.lower()]
