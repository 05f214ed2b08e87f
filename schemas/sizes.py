"""The sizes of pictures: which are drawn exactly, which are rounded, which are refused."""

MIN_SIDE = 256
MAX_SIDE = 1536
SIDE_STEP = 64

LISTED_SIZES: tuple[tuple[int, int], ...] = (
    (512, 512),
    (768, 768),
    (1024, 1024),
    (1280, 720),
    (720, 1280),
    (1024, 768),
    (768, 1024),
)
"""(width, height) in pixels that are drawn exactly as asked."""

LISTED_SIZES_TEXT = ", ".join(f"{width}x{height}" for width, height in LISTED_SIZES)


def drawn_size(width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) in pixels that is drawn for the size asked.

    A listed size is drawn as it is. Of any other size each side goes to the nearest multiple
    of 64, a side halfway between two going up. Both sides must lie in MIN_SIDE..MAX_SIDE.
    """
    if (width, height) in LISTED_SIZES:
        return width, height
    return _rounded(width), _rounded(height)


def _rounded(side: int) -> int:
    return (side + SIDE_STEP // 2) // SIDE_STEP * SIDE_STEP
