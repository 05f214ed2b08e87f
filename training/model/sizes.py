"""How large the model's parts are: what the bars on seconds and megabytes allow."""

from dataclasses import dataclass

LATENTS = 8
"""Channels of a latent."""
DOWN = 16
"""Pixels of a latent's side: five levels."""
TOKEN = 2 * DOWN
"""Pixels of a token's side: every size must be a multiple."""
HEAD = 32
"""Width of an attention head: the sum of the rotary axes."""
AXES = (8, 12, 12)
"""Of the rotary embedding: place in the text, row, column."""


@dataclass(frozen=True)
class Sizes:
    """Widths and depths."""

    dim: int = 192
    layers: int = 6
    refiners: int = 1
    text_width: int = 128
    text_layers: int = 3
    """The pipeline reads `hidden_states[-2]`: all but the last one are used."""
    vocabulary: int = 1024
    decoder: tuple[int, ...] = (16, 16, 32, 64, 128)
    """Channels from the full size down."""


SMALL = Sizes()
LARGE = Sizes(dim=224, layers=8)
"""What 25 MB in half precision leave room for."""
TINY = Sizes(dim=32, layers=1, text_width=32, vocabulary=400, decoder=(8, 8, 8, 8, 8))
"""For tests of the machinery."""
