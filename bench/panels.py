"""The panels: what the dashboard's queries gave, drawn where the dashboard has them, as SVG by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

COLUMN, LINE, GAP = 50, 24, 6
"""Pixels: width of one of 24 columns, height of one line of the grid, space between panels."""
COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
)
LEGEND_MOST = 8
_TITLE, _LEGEND_LINE, _AXIS = 20, 13, 60


@dataclass(frozen=True, slots=True)
class Curve:
    """One series: points are (seconds ago, value), and a value may be NaN."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [point for point in self.points if math.isfinite(point[1])]


def picture(
    panels: Sequence[Mapping[str, Any]], curves: Mapping[int, Sequence[Curve]], seconds: float
) -> str:
    """Return the whole dashboard; `curves` by the panel's id."""
    height = LINE * max(_bottom(panel["gridPos"]) for panel in panels)
    parts = [_panel(panel, curves.get(panel["id"], ()), seconds) for panel in panels]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" '
        f'font-family="sans-serif" font-size="10">\n'
        f'<rect width="100%" height="100%" fill="#f4f5f5"/>\n{"".join(parts)}</svg>\n'
    )


def shown(value: float, unit: str) -> str:
    """Return a value as a person reads it."""
    if not math.isfinite(value):
        return "not read"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.3g}{ {'s': ' s', 'celsius': ' °C', 'watt': ' W'}.get(unit, '') }"


def _bottom(place: Mapping[str, int]) -> int:
    return place["y"] + place["h"]


def _panel(panel: Mapping[str, Any], curves: Sequence[Curve], seconds: float) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
    draw = {"row": _row, "stat": _stat, "timeseries": _series, "table": _table}[panel["type"]]
    inner = draw(panel, curves, _Box(width, height, seconds))
    return f'<g transform="translate({place["x"] * COLUMN},{place["y"] * LINE})">{inner}</g>\n'


@dataclass(frozen=True, slots=True)
class _Box:
    """The room of a panel, in pixels, and the seconds that it shows."""

    width: int
    height: int
    seconds: float

    def frame(self, title: str) -> str:
        return (
            f'<rect width="{self.width}" height="{self.height}" fill="white" stroke="#ddd"/>'
            f'<text x="6" y="14" font-weight="bold">{escape(title)}</text>'
        )


def _row(panel: Mapping[str, Any], _: Sequence[Curve], box: _Box) -> str:
    return f'<text x="2" y="{box.height - 2}" font-size="13">{escape(panel["title"])}</text>'


def _stat(panel: Mapping[str, Any], curves: Sequence[Curve], box: _Box) -> str:
    values = [curve.points[-1][1] for curve in curves if curve.points]
    text = shown(values[0], panel["fieldConfig"]["defaults"]["unit"]) if values else "no data"
    return (
        f"{box.frame(panel['title'])}"
        f'<text x="{box.width / 2:.0f}" y="{box.height * 0.65:.0f}" font-size="30" '
        f'text-anchor="middle">{text}</text>'
    )


def _table(panel: Mapping[str, Any], curves: Sequence[Curve], box: _Box) -> str:
    lines = [
        f'<text x="8" y="{32 + 14 * number}">{escape(curve.name)}</text>'
        for number, curve in enumerate(curves)
    ]
    return box.frame(panel["title"]) + "".join(lines)


def _series(panel: Mapping[str, Any], curves: Sequence[Curve], box: _Box) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    # What moved comes first: a legend has no room for a dozen reasons that never happened.
    ordered = sorted(curves, key=lambda curve: -max((v for _, v in curve.finite), default=-1.0))
    named = ordered[:LEGEND_MOST]
    legend_lines = -(-len(named) // 2)
    bottom = box.height - 8 - _LEGEND_LINE * legend_lines
    top = max((value for curve in curves for _, value in curve.finite), default=math.nan)
    axis = (
        f'<text x="{_AXIS - 4}" y="{_TITLE + 8}" text-anchor="end">{shown(top, unit)}</text>'
        f'<text x="{_AXIS - 4}" y="{bottom}" text-anchor="end">0</text>'
        f'<line x1="{_AXIS}" x2="{box.width - 6}" y1="{bottom}" y2="{bottom}" stroke="#bbb"/>'
    )
    lines = "".join(
        _line(curve, COLOURS[number % len(COLOURS)], top or 1.0, box, bottom)
        for number, curve in enumerate(ordered)
    )
    return box.frame(panel["title"]) + axis + lines + _legend(named, len(curves), box, bottom)


def _line(curve: Curve, colour: str, top: float, box: _Box, bottom: int) -> str:
    across, up = box.width - 6 - _AXIS, bottom - _TITLE - 4
    points = " ".join(
        f"{_AXIS + across * (1 - ago / box.seconds):.1f},{bottom - up * value / top:.1f}"
        for ago, value in curve.finite
    )
    return f'<polyline fill="none" stroke="{colour}" points="{points}"/>' if points else ""


def _legend(named: Sequence[Curve], count: int, box: _Box, bottom: int) -> str:
    entries = []
    for number, curve in enumerate(named):
        x = 8 + (number % 2) * box.width // 2
        y = bottom + 14 + _LEGEND_LINE * (number // 2)
        last = number == LEGEND_MOST - 1 and count > LEGEND_MOST
        text = f"and {count - number} more" if last else curve.name
        note = "" if curve.finite or last else " (not read)"
        entries.append(
            f'<rect x="{x}" y="{y - 7}" width="8" height="3" fill="{COLOURS[number]}"/>'
            f'<text x="{x + 12}" y="{y - 2}">{escape(text)}{note}</text>'
        )
    return "".join(entries)
