"""A real Prometheus of the test's own, with our rules, asking one service every second."""

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from tests.serving import ROOT

MONITORING = ROOT / "monitoring"
PATIENCE_S = 60.0
EVERY = "1s"


def program(name):
    """The path of a program of Debian's package `prometheus`."""
    found = shutil.which(name)
    assert found, f"no {name}: install the package prometheus"
    return found


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _configuration(target):
    """Ours, with another target, and in a hurry."""
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    for key in ("scrape_interval", "evaluation_interval"):
        configuration["global"][key] = EVERY
    (job,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "imagegen")
    job["static_configs"] = [{"targets": [target]}]
    job["scrape_timeout"] = EVERY
    configuration["scrape_configs"] = [job]
    return configuration


class Prometheus:
    """One server on loopback, with its own folder and port."""

    def __init__(self, folder, target):
        self.url = f"http://127.0.0.1:{_free_port()}"
        folder.mkdir(parents=True, exist_ok=True)
        for rules in MONITORING.glob("*.rules.yml"):
            shutil.copy(rules, folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(target)))
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self.wait_for('up{job="imagegen"} == 1')
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}:\n{(folder / 'log').read_text()}") from None

    def stop(self):
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()

    def query(self, expression):
        """Return what an expression gives now: a list of (labels, value)."""
        found = self._ask("query", query=expression)
        return [(each["metric"], float(each["value"][1])) for each in found]

    def history(self, expression, seconds, step_s=1):
        """Return what it gave: a list of (labels, [(seconds ago, value)])."""
        now = time.time()
        found = self._ask(
            "query_range", query=expression, start=now - seconds, end=now, step=step_s
        )
        return [
            (each["metric"], [(now - float(at), float(value)) for at, value in each["values"]])
            for each in found
        ]

    def wait_for(self, expression, holds=bool):
        """Return what an expression gives, once `holds` of it; at first it may give nothing."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                found = self.query(expression)
            except OSError:  # it starts
                found = []
            if holds(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"Prometheus does not give {expression}")

    def rules(self):
        """Return every rule with its health and, of an alert, its state."""
        groups = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _ask(self, what, **parameters):
        return self._get(what, **parameters)["result"]

    def _get(self, what, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]


def dashboard():
    """The dashboard's file."""
    return json.loads(Path(MONITORING / "grafana" / "imagegen.json").read_text())


def panels():
    """Its panels that show something, in their order."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions(panel, rate_interval="10s"):
    """The queries of a panel as Grafana would send them: (expression, legend)."""
    return [
        (
            target["expr"]
            .replace("$__rate_interval", rate_interval)
            .replace("$instance", ".*"),
            target["legendFormat"],
        )
        for target in panel["targets"]
    ]
