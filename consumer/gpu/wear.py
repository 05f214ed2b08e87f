"""The wear: how far a child's memory has grown beyond what its pictures need. Pure."""

from dataclasses import dataclass, field, replace

WARM_PICTURES = 3
"""At the largest size so far, whose memory counts as needed: caches fill in the first ones."""
WATCHED = ("resident", "allocated", "reserved")
"""Of the child's readings; `peak` is a picture's own and goes away with it."""


@dataclass(frozen=True, slots=True)
class Wear:
    """What the pictures of one child needed.

    The need grows with the largest size only, so a leak hides in at most three pictures of each
    larger size; a smaller picture after a larger one fits into what that one left.
    """

    pictures: int = 0
    largest: int = 0
    """Pixels of the largest picture so far."""
    warm: int = 0
    """Pictures since it was the largest."""
    needed: dict[str, int] = field(default_factory=dict)
    """Bytes by reading."""

    def after(self, pixels: int, memory: dict[str, int]) -> "Wear":
        """Return the wear after a picture of this many pixels and these readings in bytes."""
        larger = pixels > self.largest
        warm = 1 if larger else self.warm + 1
        if warm > WARM_PICTURES:
            return replace(self, pictures=self.pictures + 1, warm=warm)
        return Wear(
            self.pictures + 1,
            max(pixels, self.largest),
            warm,
            {key: max(memory.get(key, 0), self.needed.get(key, 0)) for key in WATCHED},
        )

    def growth(self, memory: dict[str, int]) -> int:
        """Return by how many bytes the worst reading is beyond the need; 0 where none is."""
        return max(0, *(memory.get(key, 0) - self.needed.get(key, 0) for key in WATCHED))
