"""The picture of the dashboard: every panel's queries, by a real Prometheus, over a real run under load.

A minute and a half of the scripted pipeline, four jobs in hand: sizes and formats mixed, some
requests without patience, some for what cannot be, some asked twice, some with too little memory; in
the middle the GPU process is killed. What only a GPU tells, memory and temperature, is empty.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench.load import load
from bench.panels import Curve, picture
from bench.rig import Rig, rig
from tests.prometheus import Prometheus, dashboard, expressions

SECONDS = 90
RATE = "15s"
AT_ONCE, IN_HAND = 6, 4
DEFAULT = Path("docs/dashboard.svg")


def run(set_up: Rig) -> None:
    """Have the service work, and have its GPU process killed in the middle."""
    for second in range(SECONDS):
        set_up.served.get("/job/nobody")
        time.sleep(1.0)
        if second == SECONDS // 2:
            os.kill(set_up.served.health()["gpu"]["pid"], signal.SIGKILL)


def curves(prometheus: Prometheus, panel: dict[str, Any]) -> list[Curve]:
    """Return what the queries of a panel gave."""
    return [
        Curve(name(panel, legend, labels), points)
        for expression, legend in expressions(panel, RATE)
        for labels, points in prometheus.history(expression, SECONDS)
    ]


def name(panel: dict[str, Any], legend: str, labels: dict[str, str]) -> str:
    """Return a series' name as Grafana makes it; of a table all labels."""
    if panel["type"] == "table":
        told = ", ".join(f"{key} {value}" for key, value in labels.items())
    else:
        told = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)
    return re.sub(r"127\.0\.0\.1:\d+", "gpu-1", told)


def main() -> None:
    """Run it all, and write the picture to the path given."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    with rig(
        MODEL="scripted", PIPELINE="tests.pipelines:Scripted", MAX_CONCURRENT=IN_HAND
    ) as set_up:
        target = f"127.0.0.1:{set_up.served.port}"
        prometheus = Prometheus(set_up.data_dir / "prometheus", target)
        try:
            with load(set_up.url, AT_ONCE, mixture=True):
                run(set_up)
                found = {
                    panel["id"]: curves(prometheus, panel)
                    for panel in dashboard()["panels"]
                    if panel["type"] != "row"
                }
        finally:
            prometheus.stop()
    path.write_text(picture(dashboard()["panels"], found, SECONDS), encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
