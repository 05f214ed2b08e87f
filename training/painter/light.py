"""The light of each time of day and weather: the sky's colours, and what it does to the land's."""

from dataclasses import dataclass

from training.words import Rgb


@dataclass(frozen=True)
class Light:
    """One time of day or weather."""

    top: Rgb
    middle: Rgb
    low: Rgb
    tint: Rgb
    """What the colours of the land are multiplied by."""
    haze: Rgb
    """What far things fade into."""
    lamps: bool = False
    """Whether windows are lit."""
    white: float = 0.0
    """How much snow lies on everything, 0..1."""

    def on(self, colour: Rgb, distance: float = 0.0) -> Rgb:
        """Return a colour of the land in this light, `distance` (0..1) away."""
        lit = mix(colour, (0.93, 0.95, 0.98), self.white)
        red, green, blue = (part * tint for part, tint in zip(lit, self.tint, strict=True))
        return mix((red, green, blue), self.haze, distance)


def mix(one: Rgb, other: Rgb, part: float) -> Rgb:
    """Return the colour that is `part` of the way from one to the other."""
    red, green, blue = (a + (b - a) * part for a, b in zip(one, other, strict=True))
    return red, green, blue


LIGHTS: dict[str, Light] = {
    "sunrise": Light(
        top=(0.50, 0.63, 0.88),
        middle=(0.97, 0.76, 0.76),
        low=(1.00, 0.91, 0.72),
        tint=(0.88, 0.72, 0.70),
        haze=(0.95, 0.78, 0.76),
    ),
    "day": Light(
        top=(0.17, 0.45, 0.86),
        middle=(0.46, 0.72, 0.95),
        low=(0.84, 0.94, 0.99),
        tint=(1.0, 1.0, 1.0),
        haze=(0.66, 0.80, 0.92),
    ),
    "sunset": Light(
        top=(0.20, 0.12, 0.40),
        middle=(0.87, 0.34, 0.33),
        low=(1.00, 0.74, 0.32),
        tint=(0.50, 0.29, 0.31),
        haze=(0.80, 0.38, 0.36),
    ),
    "night": Light(
        top=(0.02, 0.03, 0.10),
        middle=(0.05, 0.08, 0.22),
        low=(0.11, 0.17, 0.36),
        tint=(0.15, 0.20, 0.34),
        haze=(0.10, 0.15, 0.32),
        lamps=True,
    ),
    "storm": Light(
        top=(0.17, 0.19, 0.24),
        middle=(0.33, 0.36, 0.41),
        low=(0.56, 0.59, 0.61),
        tint=(0.50, 0.53, 0.57),
        haze=(0.46, 0.49, 0.53),
    ),
    "snow": Light(
        top=(0.66, 0.73, 0.82),
        middle=(0.79, 0.84, 0.90),
        low=(0.93, 0.95, 0.97),
        tint=(0.95, 0.97, 1.0),
        haze=(0.84, 0.88, 0.93),
        white=0.5,
    ),
}
