"""The vocabulary: what may be in a picture, what it looks like, and the words for it."""

Rgb = tuple[float, float, float]
"""Red, green and blue, sRGB, 0..1."""

COLOURS: dict[str, Rgb] = {
    "red": (0.86, 0.14, 0.15),
    "green": (0.15, 0.64, 0.27),
    "blue": (0.13, 0.32, 0.82),
    "yellow": (0.98, 0.84, 0.16),
    "orange": (0.97, 0.52, 0.10),
    "purple": (0.49, 0.19, 0.66),
    "pink": (0.98, 0.56, 0.74),
    "white": (0.97, 0.97, 0.96),
    "black": (0.06, 0.06, 0.08),
    "gray": (0.52, 0.53, 0.55),
    "brown": (0.45, 0.27, 0.13),
    "turquoise": (0.18, 0.77, 0.75),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in COLOURS},
    "gray": ("gray", "grey"),
    "purple": ("purple", "violet"),
    "turquoise": ("turquoise", "teal"),
}

SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "dot"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring",),
    "cross": ("cross",),
    "diamond": ("diamond",),
}
SIZE_WORDS = {"small": ("small", "little"), "": ("",), "big": ("big", "large")}
PLACES: dict[str, tuple[float, float]] = {
    "center": (0.5, 0.5),
    "left": (0.24, 0.5),
    "right": (0.76, 0.5),
    "top": (0.5, 0.24),
    "bottom": (0.5, 0.76),
    "top left": (0.24, 0.24),
    "top right": (0.76, 0.24),
    "bottom left": (0.24, 0.76),
    "bottom right": (0.76, 0.76),
}
"""Where a shape may be, as parts of the width and of the height from the upper left corner."""
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "center": ("in the middle", "in the center", "in the centre"),
    "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"),
    "top": ("at the top", "in the upper half"),
    "bottom": ("at the bottom", "in the lower half"),
    "top left": ("in the top left corner", "in the upper left corner"),
    "top right": ("in the top right corner", "in the upper right corner"),
    "bottom left": ("in the bottom left corner", "in the lower left corner"),
    "bottom right": ("in the bottom right corner", "in the lower right corner"),
}
NUMBERS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "vertical stripes": ("{a} and {b} vertical stripes", "vertical stripes in {a} and {b}"),
    "horizontal stripes": (
        "{a} and {b} horizontal stripes",
        "horizontal stripes in {a} and {b}",
    ),
    "checkers": (
        "a {a} and {b} checkerboard",
        "{a} and {b} checkers",
        "a checkered pattern in {a} and {b}",
    ),
    "dots": ("{a} polka dots on a {b} background", "{b} with {a} polka dots"),
}

LAND_WORDS: dict[str, tuple[str, ...]] = {
    "mountains": ("mountains", "a mountain range", "the mountains", "high mountains"),
    "sea": ("the sea", "the ocean", "a calm sea"),
    "desert": ("a desert", "sand dunes", "the desert"),
    "meadow": ("a meadow", "a field of flowers", "green hills", "a flower meadow"),
    "forest": ("a forest", "pine trees", "the woods", "a pine forest"),
    "city": ("a city", "a city skyline", "a skyline of skyscrapers"),
}
SKY_WORDS: dict[str, tuple[str, ...]] = {
    "sunrise": ("at sunrise", "at dawn", "in the early morning"),
    "day": ("on a sunny day", "under a blue sky", "in daylight", "by day", "at noon"),
    "sunset": ("at sunset", "at dusk", "in the evening"),
    "night": ("at night", "in the night", "by night"),
    "storm": ("in a storm", "on a stormy day", "under dark storm clouds", "in the rain"),
    "snow": ("in the snow", "in winter", "on a snowy day"),
}
SKY_NOUNS = {
    "sunrise": ("a sunrise over {}", "sunrise above {}", "dawn over {}"),
    "day": ("a sunny day over {}", "{}"),
    "sunset": ("a sunset over {}", "sunset above {}", "dusk over {}"),
    "night": ("night over {}", "a night over {}"),
    "storm": ("a storm over {}", "a thunderstorm over {}", "rain over {}"),
    "snow": ("snow over {}", "snowfall over {}", "snowy {}"),
}
"""The same as SKY_WORDS, with the land in the place of the braces."""

OBJECT_WORDS: dict[str, tuple[str, ...]] = {
    "sun": ("the sun", "a bright sun", "the sun in the sky"),
    "moon": ("the moon", "a full moon", "a bright moon"),
    "stars": ("stars", "a starry sky", "many stars"),
    "clouds": ("clouds", "white clouds", "fluffy clouds"),
    "birds": ("birds", "flying birds", "a flock of birds"),
    "boat": ("a boat", "a sailing boat", "a sailboat", "a ship"),
    "house": ("a house", "a small house", "a cottage", "a cabin"),
    "tree": ("a tree", "a big tree", "a lone tree"),
    "balloon": ("a hot air balloon", "a balloon"),
    "lighthouse": ("a lighthouse", "a tall lighthouse"),
    "bridge": ("a bridge", "a long bridge"),
}
_AIRY = ("sunrise", "day", "sunset", "snow")
OBJECT_HOMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sun": (tuple(LAND_WORDS), ("sunrise", "day", "sunset")),
    "moon": (tuple(LAND_WORDS), ("night",)),
    "stars": (tuple(LAND_WORDS), ("night",)),
    "clouds": (tuple(LAND_WORDS), _AIRY),
    "birds": (tuple(LAND_WORDS), _AIRY),
    "boat": (("sea",), tuple(SKY_WORDS)),
    "house": (("mountains", "meadow", "forest", "desert"), tuple(SKY_WORDS)),
    "tree": (("mountains", "meadow", "desert"), tuple(SKY_WORDS)),
    "balloon": (tuple(LAND_WORDS), (*_AIRY, "night")),
    "lighthouse": (("sea",), tuple(SKY_WORDS)),
    "bridge": (("sea", "city"), tuple(SKY_WORDS)),
}
"""The lands and the skies that an object goes with: elsewhere it would hide or look wrong."""

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "": ("{}", "{}", "{}", "a picture of {}", "an illustration of {}"),
    "watercolour": (
        "a watercolour of {}",
        "a watercolor painting of {}",
        "{}, watercolor",
        "{} in watercolour",
    ),
    "pencil": ("a pencil drawing of {}", "{}, pencil sketch", "a pencil sketch of {}"),
    "neon": ("{} in neon lights", "{}, neon", "neon art of {}"),
    "pixel": ("pixel art of {}", "{}, pixel art", "{} in pixels"),
}
IDLE_WORDS = (
    "beautiful",
    "highly detailed",
    "4k",
    "masterpiece",
    "please",
    "digital art",
    "minimalist",
    "amazing",
    "trending on artstation",
    "my favourite",
    "peaceful",
    "with soft light",
    "wonderful",
    "in high quality",
)
"""Said, and without an effect."""
SYLLABLES = ("ka", "lo", "mi", "dra", "ven", "tor", "ish", "qua", "zel", "bu", "fro", "nex")
"""Of words that mean nothing: what the model has never heard must not upset it."""
