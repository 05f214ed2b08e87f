"""The plot: throughput, waits and costs over the number of consumers, as SVG written by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 430, 260
"""Of one frame, in pixels."""
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 44, 34
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")
IDEAL = "#bbb"


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: a value for each number of consumers."""

    name: str
    values: Sequence[float]
    colour: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One diagram."""

    title: str
    counts: Sequence[int]
    curves: Sequence[Curve]

    def drawn(self) -> str:
        """Return it with its axes, at the origin."""
        top = max(value for curve in self.curves for value in curve.values) or 1.0
        parts = [
            f'<text x="{LEFT}" y="16" font-weight="bold">{escape(self.title)}</text>',
            *self._axes(top),
        ]
        for number, curve in enumerate(self.curves):
            x = LEFT + number * (WIDTH - LEFT) // len(self.curves)
            parts.append(
                f'<text x="{x}" y="32" fill="{curve.colour}">{escape(curve.name)}</text>'
            )
            parts.append(self._line(curve, top))
        return "\n".join(parts)

    def _x(self, count: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * count / max(self.counts)

    def _y(self, value: float, top: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top

    def _axes(self, top: float) -> list[str]:
        floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        lines = []
        for share in (0.0, 0.5, 1.0):
            y = self._y(share * top, top)
            lines.append(
                f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>'
                f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{share * top:.3g}</text>'
            )
        lines += [
            f'<text x="{self._x(count):.1f}" y="{floor + 14}" text-anchor="middle">{count}</text>'
            for count in self.counts
        ]
        lines.append(f'<text x="{right}" y="{floor + 28}" text-anchor="end">consumers</text>')
        return lines

    def _line(self, curve: Curve, top: float) -> str:
        points = [
            (self._x(count), self._y(value, top))
            for count, value in zip(self.counts, curve.values, strict=True)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{curve.colour}"/>'
            for x, y in points
        )
        return f'<polyline fill="none" stroke="{curve.colour}" points="{line}"/>{dots}'


def picture(figures: Mapping[int, Mapping[str, Any]]) -> str:
    """Return all diagrams, two beside each other."""
    frames = _frames(figures)
    rows = -(-len(frames) // 2)
    placed = "\n".join(
        f'<g transform="translate({WIDTH * (number % 2)},{HEIGHT * (number // 2)})">'
        f"\n{frame.drawn()}\n</g>"
        for number, frame in enumerate(frames)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{placed}\n</svg>\n'
    )


def _frames(figures: Mapping[int, Mapping[str, Any]]) -> list[Frame]:
    counts = sorted(figures)
    busy = [figures[count]["busy"] for count in counts]
    chance = [figures[count]["by_chance"] for count in counts]
    one = busy[0]["throughput"] / counts[0]

    def frame(title: str, curves: Mapping[str, Sequence[float]]) -> Frame:
        coloured = [
            Curve(name, values, IDEAL if name == "one times as many" else colour)
            for (name, values), colour in zip(curves.items(), COLOURS, strict=False)
        ]
        return Frame(title, counts, coloured)

    groups = ("consumers", "broker", "database", "callers")
    return [
        frame(
            "pictures a second",
            {
                "measured": [each["throughput"] for each in busy],
                "one times as many": [one * count for count in counts],
            },
        ),
        frame(
            "seconds of wait, 80 % busy by chance",
            {
                "mean": [each["wait_s"]["mean"] for each in chance],
                "p95": [each["wait_s"]["p95"] for each in chance],
            },
        ),
        frame(
            "CPU milliseconds a picture",
            {group: [each["cpu_ms_a_picture"][group] for each in busy] for group in groups},
        ),
        frame(
            "messages a picture",
            {
                "published": [each["messages_a_picture"]["publish"] for each in busy],
                "delivered": [
                    each["messages_a_picture"]["deliver"]
                    + each["messages_a_picture"]["deliver_no_ack"]
                    for each in busy
                ],
            },
        ),
    ]
