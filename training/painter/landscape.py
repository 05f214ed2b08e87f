"""Landscapes: which strokes a land under a sky is, from the back to the front."""

from collections.abc import Callable
from dataclasses import dataclass

from training.painter import things
from training.painter.light import LIGHTS, Light, mix
from training.painter.strokes import Paper, Stroke, ellipse, line
from training.painter.things import Spot
from training.scenes import Landscape
from training.words import Rgb


@dataclass(frozen=True)
class View:
    """A landscape's frame: what all its parts go by."""

    scene: Landscape
    paper: Paper
    light: Light
    horizon: float
    """From the top, in lengths of the shorter side."""
    lamp: tuple[float, float] | None
    """Where sun or moon stands, if there is one."""

    def has(self, thing: str) -> bool:
        """Whether a thing is to be seen."""
        return thing in self.scene.objects

    @property
    def deep(self) -> float:
        """From the horizon to the lower edge."""
        return self.paper.height - self.horizon


def landscape(scene: Landscape, paper: Paper) -> list[Stroke]:
    """The strokes of a landscape."""
    horizon = paper.height * paper.between(0.54, 0.62)
    view = View(scene, paper, LIGHTS[scene.sky], horizon, _lamp(scene, paper, horizon))
    painted = [*_sky(view), *_LANDS[scene.land](view), *_standing(view), *_flying(view)]
    return painted + _falling(view)


# -------------------------------------------------------------------- the air


def _lamp(scene: Landscape, paper: Paper, horizon: float) -> tuple[float, float] | None:
    x = paper.width * paper.between(0.28, 0.72)
    if scene.sky in {"sunset", "sunrise"}:
        return x, horizon * paper.between(0.62, 0.84)
    if {"sun", "moon"} & set(scene.objects):
        return x, horizon * paper.between(0.2, 0.4)
    return None


def _sky(view: View) -> list[Stroke]:
    light, paper, horizon = view.light, view.paper, view.horizon
    middle = horizon * paper.between(0.48, 0.6)
    painted = [
        Stroke("gradient", (horizon * 1.04, middle, *light.top, *light.middle, *light.low))
    ]
    if view.scene.sky == "night":
        many = view.has("stars")
        cells, part = (19.0, 0.5) if many else (15.0, 0.16)
        painted.append(Stroke("stars", (paper.seed(), horizon, cells, part)))
    if view.lamp is not None:
        painted += (
            _sun(view, view.lamp) if view.scene.sky != "night" else _moon(view, view.lamp)
        )
    if view.has("clouds"):
        painted += _clouds(view)
    if view.scene.sky == "storm":
        painted += _storm(view)
    return painted


def _sun(view: View, place: tuple[float, float]) -> list[Stroke]:
    low = view.scene.sky != "day"
    disc = {"day": (1.0, 0.96, 0.72), "sunset": (1.0, 0.90, 0.52)}.get(
        view.scene.sky, (1.0, 0.97, 0.86)
    )
    halo = (1.0, 0.80, 0.42) if low else (1.0, 0.97, 0.80)
    radius = view.paper.between(0.07, 0.085)
    return [
        Stroke("glow", (*place, 0.34 if low else 0.2, 0.55, *halo)),
        Stroke("glow", (*place, 0.13, 0.75, *disc)),
        ellipse(*place, radius, radius, disc),
    ]


def _moon(view: View, place: tuple[float, float]) -> list[Stroke]:
    x, y = place
    radius = view.paper.between(0.065, 0.08)
    pale, spot = (0.95, 0.95, 0.88), (0.84, 0.84, 0.79)
    return [
        Stroke("glow", (x, y, 0.19, 0.42, 0.60, 0.68, 0.90)),
        ellipse(x, y, radius, radius, pale),
        ellipse(x - radius * 0.3, y - radius * 0.25, radius * 0.24, radius * 0.24, spot),
        ellipse(x + radius * 0.32, y + radius * 0.1, radius * 0.18, radius * 0.18, spot),
        ellipse(x - radius * 0.1, y + radius * 0.42, radius * 0.15, radius * 0.15, spot),
    ]


def _clouds(view: View) -> list[Stroke]:
    light, paper = view.light, view.paper
    lit = mix((1.0, 1.0, 1.0), light.low, 0.15 if view.scene.sky == "day" else 0.5)
    shaded = mix(lit, light.middle, 0.5)
    count = 3 + round(paper.width - 1) * 2
    return [
        Stroke(
            "cloud",
            (
                (index + paper.between(0.25, 0.75)) / count * paper.width,
                paper.between(0.16, 0.52) * view.horizon,
                paper.between(0.1, 0.155),
                paper.seed(),
                0.94,
                *lit,
                *shaded,
            ),
        )
        for index in range(count)
    ]


def _storm(view: View) -> list[Stroke]:
    paper, horizon = view.paper, view.horizon
    painted = [
        Stroke("overcast", (paper.seed(), horizon * 1.1, *shade))
        for shade in ((0.13, 0.14, 0.18), (0.43, 0.46, 0.50), (0.20, 0.22, 0.26))
    ]
    if paper.chance.random() < 0.6:
        painted += _lightning(view)
    return painted


def _lightning(view: View) -> list[Stroke]:
    paper = view.paper
    x, y = paper.between(0.2, 0.8) * paper.width, view.horizon * 0.12
    painted = [Stroke("glow", (x, view.horizon * 0.4, 0.16, 0.4, 0.85, 0.88, 1.0))]
    while y < view.horizon * 0.92:
        onward = x + paper.between(-0.07, 0.07), y + paper.between(0.05, 0.09)
        painted.append(line((x, y), onward, 0.010, (0.99, 0.98, 0.86)))
        x, y = onward
    return painted


def _falling(view: View) -> list[Stroke]:
    paper = view.paper
    if view.scene.sky == "storm":
        return [Stroke("rain", (paper.seed(), 0.22, 0.34, 0.80, 0.84, 0.90))]
    if view.scene.sky == "snow":
        return [
            Stroke("flakes", (paper.seed(), 22.0, 0.10, 0.75)),
            Stroke("flakes", (paper.seed(), 12.0, 0.13, 0.9)),
        ]
    return []


# -------------------------------------------------------------------- the lands


def _ridge(
    view: View, foot: float, height: float, shape: tuple[float, float, float], *colours: Rgb
) -> Stroke:
    """A ridge: `shape` is frequency, roughness, sharpness; colours of crest and foot."""
    return Stroke(
        "ridge",
        (foot, height, *shape, view.paper.seed(), 9.0, *colours[0], *colours[-1]),
    )


def _mountains(view: View) -> list[Stroke]:
    paper, light, horizon = view.paper, view.light, view.horizon
    snow = 0.50 if view.scene.sky == "snow" or paper.chance.random() < 0.5 else 9.0
    far, near = light.on((0.42, 0.47, 0.62), 0.45), light.on((0.30, 0.36, 0.42), 0.14)
    painted = [
        Stroke(
            "ridge",
            (
                *(
                    horizon + 0.03,
                    paper.between(0.38, 0.46),
                    paper.between(1.1, 1.7),
                    0.46,
                    1.0,
                ),
                *(paper.seed(), snow, *far, *mix(far, light.haze, 0.55)),
            ),
        ),
        _ridge(
            view,
            horizon + 0.06,
            0.25,
            (paper.between(1.5, 2.2), 0.48, 1.0),
            near,
            mix(near, light.haze, 0.35),
        ),
    ]
    grass, dark = light.on((0.26, 0.46, 0.22)), light.on((0.16, 0.30, 0.15))
    if view.has("house") or view.has("tree") or paper.chance.random() < 0.5:
        painted.append(
            _ridge(
                view, horizon + 0.13, 0.12, (0.8, 0.4, 0.0), mix(grass, light.haze, 0.2), grass
            )
        )
        painted.append(_ridge(view, horizon + 0.28, 0.10, (0.7, 0.4, 0.0), grass, dark))
        return painted
    painted.append(_water(view, horizon + 0.05))
    painted += _glitter(view, horizon + 0.05, 0.05)
    painted.append(
        _ridge(
            view,
            paper.height + 0.01,
            0.13,
            (0.9, 0.4, 0.0),
            dark,
            mix(dark, (0.0, 0.0, 0.0), 0.4),
        )
    )
    return painted


def _water(view: View, shore: float) -> Stroke:
    far, near = view.light.on((0.22, 0.52, 0.74), 0.3), view.light.on((0.06, 0.26, 0.46))
    end = view.paper.height
    return Stroke("water", (shore, end, view.paper.seed(), 0.05, 0.5, *far, *near))


def _glitter(view: View, shore: float, width: float) -> list[Stroke]:
    if view.lamp is None:
        return []
    colour = (0.88, 0.90, 0.96) if view.scene.sky == "night" else (1.0, 0.88, 0.58)
    values = (view.lamp[0], shore, view.paper.height, view.paper.seed(), width, 0.75)
    return [Stroke("glitter", (*values, *colour))]


def _sea(view: View) -> list[Stroke]:
    paper, light = view.paper, view.light
    painted = [_water(view, view.horizon), *_glitter(view, view.horizon, 0.07)]
    if paper.chance.random() < 0.35 and not view.has("bridge"):
        sand = light.on((0.90, 0.78, 0.55))
        foam = mix(sand, (1.0, 1.0, 1.0), 0.45)
        end, seed = paper.height + 0.02, paper.seed()
        for height, colour in ((0.15, foam), (0.135, sand)):
            values = (end, height, 0.8, 0.3, 0.0, seed, 9.0, *colour, *colour)
            painted.append(Stroke("ridge", values))
    return painted


def _desert(view: View) -> list[Stroke]:
    light, horizon, deep = view.light, view.horizon, view.deep
    sands = ((0.93, 0.80, 0.56), (0.90, 0.70, 0.42), (0.80, 0.56, 0.30))
    painted = []
    for index, sand in enumerate(sands):
        crest = light.on(sand, 0.30 - 0.15 * index)
        foot = horizon + deep * (0.1, 0.42, 0.85)[index]
        shape = (view.paper.between(0.55, 0.95), 0.24, 0.42)
        low = mix(crest, light.on((0.52, 0.30, 0.16)), 0.45)
        painted.append(_ridge(view, foot, 0.13 + 0.04 * index, shape, crest, low))
    return painted


def _meadow(view: View) -> list[Stroke]:
    paper, light, horizon, deep = view.paper, view.light, view.horizon, view.deep
    greens = ((0.52, 0.74, 0.38), (0.38, 0.66, 0.28), (0.28, 0.56, 0.20))
    painted = []
    for index, green in enumerate(greens):
        crest = light.on(green, 0.28 - 0.14 * index)
        foot = horizon + deep * (0.1, 0.34, 0.66)[index]
        shape = (paper.between(0.5, 0.9), 0.3, 0.0)
        painted.append(
            _ridge(view, foot, 0.12, shape, crest, mix(crest, light.on((0.1, 0.3, 0.08)), 0.3))
        )
    bloom = paper.chance.choice(
        [
            (0.92, 0.20, 0.20),
            (0.99, 0.86, 0.25),
            (0.97, 0.60, 0.78),
            (0.98, 0.97, 0.94),
            (0.62, 0.36, 0.80),
        ]
    )
    if light.white == 0.0:
        start = horizon + deep * 0.62
        painted.append(
            Stroke(
                "flowers",
                (start, paper.height, paper.seed(), *mix(light.on(bloom), bloom, 0.15)),
            )
        )
    return painted


def _forest(view: View) -> list[Stroke]:
    paper, light, horizon, deep = view.paper, view.light, view.horizon, view.deep
    floor = light.on((0.20, 0.36, 0.18))
    painted = [
        _ridge(view, horizon + 0.04, 0.08, (0.8, 0.4, 0.0), mix(floor, light.haze, 0.4), floor)
    ]
    rows = ((0.04, 0.2, 0.05, 0.5), (0.3, 0.32, 0.085, 0.22), (0.86, 0.5, 0.15, 0.0))
    for part, height, apart, away in rows:
        if view.has("house") and away == 0.0:
            continue
        tip, low = light.on((0.20, 0.44, 0.26), away), light.on((0.09, 0.24, 0.14), away)
        values = (horizon + deep * part, height, apart, paper.seed(), *tip, *low)
        painted.append(Stroke("pines", values))
    return painted


def _city(view: View) -> list[Stroke]:
    paper, light, horizon = view.paper, view.light, view.horizon
    lit = {"night": 0.62, "sunset": 0.4, "storm": 0.34}.get(view.scene.sky, 0.5)
    pane = (1.0, 0.84, 0.45) if lit != 0.5 else light.on((0.66, 0.82, 0.92))
    painted = []
    for wide, height, away in ((0.055, 0.34, 0.55), (0.085, 0.36, 0.18)):
        stone = light.on((0.40, 0.44, 0.54), away)
        shown = lit * (0.45 if away > 0.3 else 1.0)
        values = (
            horizon + 0.05,
            height,
            wide,
            paper.seed(),
            shown,
            *stone,
            *mix(pane, stone, away * 0.7),
        )
        painted.append(Stroke("skyline", values))
    return [*painted, _water(view, horizon + 0.05), *_glitter(view, horizon + 0.05, 0.05)]


_LANDS: dict[str, Callable[[View], list[Stroke]]] = {
    "mountains": _mountains,
    "sea": _sea,
    "desert": _desert,
    "meadow": _meadow,
    "forest": _forest,
    "city": _city,
}


# -------------------------------------------------------------------- the things


def _standing(view: View) -> list[Stroke]:
    paper, light, horizon, deep = view.paper, view.light, view.horizon, view.deep
    painted = []
    if view.has("bridge"):
        painted += things.bridge(horizon + deep * 0.2, light, paper)
    if view.has("lighthouse"):
        side = paper.width * paper.chance.choice((0.2, 0.8))
        painted += things.lighthouse(Spot(side, horizon + 0.06, 0.145, light), paper)
    ground = horizon + deep * 0.66
    for thing, draw, (low, high) in (
        ("tree", things.tree, (0.62, 0.84)),
        ("house", things.house, (0.2, 0.46)),
    ):
        if view.has(thing):
            x, size = paper.width * paper.between(low, high), paper.between(0.135, 0.165)
            painted += draw(Spot(x, ground + paper.between(-0.02, 0.05), size, light), paper)
    if view.has("boat"):
        x = paper.width * paper.between(0.34, 0.66)
        y = horizon + deep * paper.between(0.3, 0.5)
        painted += things.boat(Spot(x, y, paper.between(0.13, 0.16), light), paper)
    return painted


def _flying(view: View) -> list[Stroke]:
    paper, light, horizon = view.paper, view.light, view.horizon
    painted = []
    if view.has("birds"):
        painted += things.birds(horizon, light, paper)
    if view.has("balloon"):
        away = view.lamp is not None and view.lamp[0] < paper.width / 2
        x = paper.width * (paper.between(0.68, 0.8) if away else paper.between(0.2, 0.34))
        spot = Spot(x, horizon * paper.between(0.34, 0.46), paper.between(0.11, 0.13), light)
        painted += things.balloon(spot, paper)
    return painted
