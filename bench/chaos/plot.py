"""The plot: curves over the jobs of a soak, as SVG written by hand."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, MARGIN = 860, 150, 60
"""Of one curve with its frame, in pixels."""


def curves(
    jobs: Sequence[float], figures: Mapping[str, Sequence[float]], faults: Sequence[float]
) -> str:
    """Return one frame above the other, with a grey line at every fault."""
    frames = [
        _frame(number, title, jobs, values, faults)
        for number, (title, values) in enumerate(figures.items())
    ]
    height = HEIGHT * len(frames) + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{"".join(frames)}'
        f'<text x="{WIDTH / 2:.0f}" y="{height - 5}" text-anchor="middle">jobs answered</text>\n'
        "</svg>\n"
    )


def _frame(
    number: int,
    title: str,
    jobs: Sequence[float],
    values: Sequence[float],
    faults: Sequence[float],
) -> str:
    top, bottom = HEIGHT * number + 22, HEIGHT * (number + 1) - 8
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    last = max(jobs) or 1.0

    def x(job: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * job / last

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / span

    points = " ".join(
        f"{x(job):.1f},{y(value):.1f}" for job, value in zip(jobs, values, strict=True)
    )
    marks = "".join(
        f'<line x1="{x(job):.1f}" x2="{x(job):.1f}" y1="{top}" y2="{bottom}" stroke="#ddd"/>'
        for job in faults
    )
    return (
        f'<text x="{MARGIN}" y="{top - 8}">{title}</text>{marks}\n'
        f'<text x="{MARGIN - 5}" y="{top + 4}" text-anchor="end">{high:g}</text>'
        f'<text x="{MARGIN - 5}" y="{bottom}" text-anchor="end">{low:g}</text>\n'
        f'<polyline fill="none" stroke="#1f77b4" points="{points}"/>\n'
    )
