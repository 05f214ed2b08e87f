"""The accept: which of the representations that we have a caller likes best. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Range:
    """One media range of an Accept header."""

    type: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """Return how exactly it names a type: 0 not at all, 1 as anything, 2 its family, 3 itself."""
        if self.type == media_type:
            return 3
        if self.type == f"{media_type.partition('/')[0]}/*":
            return 2
        return 1 if self.type == "*/*" else 0


def best(header: str | None, offered: Sequence[str]) -> str | None:
    """Return the media type to send of those offered, the dearest to us first; None if none will do.

    RFC 9110, 12.5.1: the most specific range that matches a type gives its quality. Of equal
    ones that which was named more exactly is taken, then the one that we offered first.
    """
    if header is None or not header.strip():
        return offered[0]
    ranges = [_range(part) for part in header.split(",") if part.strip()]
    chosen, chosen_rank = None, (0.0, 0)
    for media_type in offered:
        named = max(ranges, key=lambda one: one.specificity(media_type))
        specificity = named.specificity(media_type)
        rank = (named.quality if specificity else 0.0, specificity)
        if rank[0] > 0 and rank > chosen_rank:
            chosen, chosen_rank = media_type, rank
    return chosen


def _range(part: str) -> _Range:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            quality = _quality(value)
    return _Range(media_type, quality)


def _quality(value: str) -> float:
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 1.0
