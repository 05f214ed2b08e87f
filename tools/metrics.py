"""The page on metrics, made from their table."""

from consumer.metrics import TABLE, Kind, Row

_SECTIONS = {
    "requests": "Requests",
    "images": "Pictures",
    "gpu_useful_seconds": "GPU",
    "reconnects": "Broker",
    "ready": "The service itself",
}
"""The first metric of each section."""


def markdown() -> str:
    """Return docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made from the table in `consumer/metrics.py` by `make generate`; do not edit.",
        "",
        "`GET /metrics` answers everybody who reaches the port, from memory: a driver or a broker",
        "that hangs does not hold it up. Every label value below is there from the start, at zero.",
        "A histogram `x` has the series `x_bucket`, `x_sum` and `x_count`. A gauge that cannot be",
        "read is `NaN`. Besides: `process_*` of prometheus-client, for the service without its GPU",
        "process. Rules, alerts and a dashboard on them: [monitoring](../monitoring/README.md).",
    ]
    for row in TABLE:
        if row.name in _SECTIONS:
            lines += [
                "",
                f"## {_SECTIONS[row.name]}",
                "",
                "| metric | kind | labels | what it is |",
                "|---|---|---|---|",
            ]
        lines.append(
            f"| `{row.full_name}` | {row.kind.value} | {_labels(row)} | {_told(row)} |"
        )
    return "\n".join(lines) + "\n"


def _labels(row: Row) -> str:
    return "; ".join(_label(name, values) for name, values in row.labels.items()) or "—"


def _label(name: str, values: tuple[str, ...]) -> str:
    if not values:
        return f"`{name}`"
    return f"`{name}`: {', '.join(f'`{value}`' for value in values)}"


def _told(row: Row) -> str:
    if row.kind is not Kind.HISTOGRAM:
        return row.help
    return f"{row.help} Buckets: {', '.join(f'{bucket:.10g}' for bucket in row.buckets)}."
