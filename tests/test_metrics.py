"""The metrics: one table, and code, page, rules and dashboard that speak of the same names."""

import asyncio
import math
import re
import time
import typing
from dataclasses import replace
from urllib.parse import quote, urlsplit

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.parser import text_string_to_metric_families

from consumer import metrics
from consumer.connection import Loss, Published
from consumer.metrics import OPEN, READINGS, TABLE, Kind, Metrics
from consumer.runner import StopCause
from consumer.service import Service
from consumer.settings import Settings
from tests.prometheus import MONITORING, dashboard, expressions, panels
from tests.rpc import Requester
from tests.serving import ROOT

ROWS = {row.full_name: row for row in TABLE}
CLASSES = {
    Kind.COUNTER: Counter,
    Kind.GAUGE: Gauge,
    Kind.HISTOGRAM: Histogram,
    Kind.INFO: Info,
}
UNITS = {"seconds", "bytes", "celsius", "watts", "ratio"}
ABBREVIATIONS = {
    "ms",
    "sec",
    "secs",
    "kb",
    "mb",
    "gb",
    "mib",
    "gib",
    "percent",
    "min",
    "millis",
}
OURS = re.compile(r"(?<![\w:])(imagegen_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")
OF_PROMETHEUS = {"job", "instance", "le"}


def series(row):
    """The names under which Prometheus keeps a metric."""
    if row.kind is Kind.HISTOGRAM:
        return {f"{row.full_name}_{part}" for part in ("bucket", "sum", "count")}
    return {row.full_name}


SERIES = {name: row for row in TABLE for name in series(row)}


def rules():
    """Every rule of monitoring/."""
    return [
        rule
        for file in sorted(MONITORING.glob("*.rules.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def asked():
    """Every expression of rules and dashboard, and every series in the rules' tests."""
    yield from (rule["expr"] for rule in rules())
    for panel in panels():
        yield from (expression for expression, _ in expressions(panel))
    for case in yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]:
        yield from (given["series"] for given in case["input_series"])


def exposed(text):
    """The samples of an exposition: {(name, labels): value}."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ---------------------------------------------------------------- the table


def test_every_row_has_its_typed_attribute():
    """What the type checker believes of a metric is what the table makes of it."""
    declared = typing.get_type_hints(Metrics)
    assert declared == {row.name: CLASSES[row.kind] for row in TABLE}
    made = Metrics()
    assert all(isinstance(getattr(made, name), kind) for name, kind in declared.items())


def test_every_label_value_is_there_from_the_start():
    """A rate can be taken of the first event, and an alert needs no `or vector(0)`."""
    found = exposed(Metrics().text().decode())
    for row in TABLE:
        closed = {name: values for name, values in row.labels.items() if values is not OPEN}
        for label, values in closed.items():
            (name,) = series(row) & {row.full_name, f"{row.full_name}_count"}
            told = {dict(labels).get(label) for sample, labels in found if sample == name}
            assert told == set(values)


def test_counters_begin_at_zero_and_readings_at_nan():
    """Nothing is shown that did not happen or was not read."""
    found = exposed(Metrics().text().decode())
    for (name, _), value in found.items():
        row = SERIES.get(name)
        if row is not None and row.kind is Kind.COUNTER:
            assert value == 0
    for gauge in READINGS.values():
        assert math.isnan(found[f"imagegen_{gauge}", frozenset()])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_names_keep_the_rules_of_prometheus(row):
    """Snake case, base units at the end, `_total` and `_info` where they belong, a sentence of help."""
    words = row.full_name.split("_")
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", row.full_name)
    assert not ABBREVIATIONS & set(words)
    suffix = {Kind.COUNTER: ["total"], Kind.INFO: ["info"]}.get(row.kind, [])
    assert words[len(words) - len(suffix) :] == suffix
    stem = words[: len(words) - len(suffix)]
    assert stem[-1] not in {"total", "info", "count", "sum", "bucket"}
    assert not UNITS & set(stem[:-1]), "the unit comes last"
    if row.kind is Kind.HISTOGRAM:
        assert stem[-1] in {"seconds", "bytes"}
        assert list(row.buckets) == sorted(set(row.buckets))
    assert row.help.endswith(".")
    assert "instance" not in row.labels
    assert "job" not in row.labels


def test_values_are_those_of_the_code():
    """Labels whose values stand in modules above the table have all of them."""
    assert set(metrics.LOST_BY) == {loss.value for loss in Loss}
    assert set(metrics.REPLY_OUTCOMES) == {end.value for end in Published} | {"forgotten"}
    assert {cause.value for cause in StopCause} < set(metrics.WASTED_BY)


# ---------------------------------------------------------------- page, rules, dashboard


def test_the_page_is_the_table():
    """docs/metrics.md names every metric and no other."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(imagegen_\w+)`", page, re.MULTILINE)) == set(ROWS)


def test_rules_and_dashboard_ask_for_what_there_is():
    """No name, label or value in monitoring/ is one that the service does not have."""
    for expression in asked():
        for name, matchers in OURS.findall(expression):
            assert name in SERIES, expression
            for label, values in MATCHER.findall(matchers):
                if label in OF_PROMETHEUS:
                    continue
                known = SERIES[name].labels[label]
                assert known is OPEN or set(values.split("|")) <= set(known), expression


def test_recorded_series_are_recorded():
    """What alerts and dashboard take from recording rules is made by one."""
    made = {rule["record"] for rule in rules() if "record" in rule}
    used = {
        name
        for expression in asked()
        for name in re.findall(r"\w+:imagegen_\w+:\w+", expression)
    }
    assert used == made


def test_every_metric_is_shown_or_watched():
    """What nobody looks at is not counted."""
    shown = {name for expression in asked() for name, _ in OURS.findall(expression)}
    assert {row.full_name for row in TABLE if not series(row) & shown} == set()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_tells_what_to_do(alert):
    """Summary, description, severity, and a page of its own that answers to its name."""
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    page = ROOT / told["runbook_url"]
    assert page.parent == ROOT / "docs" / "runbooks"
    assert page.read_text().startswith(f"# {alert['alert']}\n")


def test_no_runbook_is_left_over():
    """A page stands for an alert that there is, and what it names is there."""
    pages = set((ROOT / "docs" / "runbooks").glob("*.md"))
    assert pages == {ROOT / alert["annotations"]["runbook_url"] for alert in alerts()}
    for page in pages:
        text = page.read_text()
        assert set(re.findall(r"imagegen_[a-z_]+", text)) <= set(SERIES), page
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert (page.parent / link).is_file(), link


def test_panels_do_not_overlap_and_have_a_sentence_each():
    """The first row is five numbers; every panel has a place, an id and a description of its own."""
    places = [
        (x, y)
        for panel in dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    assert [panel["type"] for panel in panels()[:5]] == ["stat"] * 5
    assert all(panel["description"].endswith(".") for panel in panels())


# ---------------------------------------------------------------- the service


@pytest.fixture
async def requester(channel):
    return await Requester(channel).start()


def counted(service, name, **labels):
    """The value of a metric of a running service."""
    found = exposed(service.get("/metrics")[2].decode())
    return found[f"imagegen_{name}", frozenset(labels.items())]


async def test_a_picture_is_counted_once_everywhere(house, requester):
    """One request moves each of its metrics by what it was, and no more."""
    service = house.restart()
    await requester.ask({"prompt": "x", "width": 512, "height": 512, "output_format": "webp"})
    await asyncio.to_thread(service.wait, "settled")
    assert await asyncio.to_thread(service.wait_idle)
    text = (await asyncio.to_thread(service.get, "/metrics"))[2].decode()
    found = exposed(text)

    def of(name, **labels):
        return found[f"imagegen_{name}", frozenset(labels.items())]

    assert of("requests_total", outcome="succeeded") == 1
    assert of("settlements_total", settlement="ack") == 1
    assert of("replies_total", kind="result", outcome="confirmed") == 1
    assert of("images_total", format="webp") == 1
    assert of("pixels_total") == 512 * 512
    steps = of("steps_total")
    assert steps == Settings().inference_steps - 1
    assert of("step_duration_seconds_count", size="512x512") == steps - 1
    for stage in metrics.STAGES:
        assert of("stage_duration_seconds_count", stage=stage) == 1
    for histogram in ("request_duration", "queue_wait", "generation", "ack_age"):
        assert of(f"{histogram}_seconds_count") == 1
    assert of("reply_bytes_count") == 1
    assert (
        of("last_success_timestamp_seconds") > found["process_start_time_seconds", frozenset()]
    )


async def test_a_running_service_shows_itself(house, requester):
    """Gauges tell what it is and what it stands on."""
    service = house.service(MAX_CONCURRENT=3)
    found = exposed((await asyncio.to_thread(service.get, "/metrics"))[2].decode())
    told = {name: value for (name, labels), value in found.items() if not labels}
    for gauge in ("ready", "broker_connected", "model_loaded", "consuming", "store_available"):
        assert told[f"imagegen_{gauge}"] == 1
    assert told["imagegen_draining"] == 0
    assert told["imagegen_concurrency_limit"] == 3
    assert told["imagegen_queue_bound"] == Settings().max_queue_size
    assert told["imagegen_loop_lag_seconds"] >= 0
    infos = {name: dict(labels) for name, labels in found if name.endswith("_info")}
    assert infos["imagegen_model_info"]["model"] == "scripted"
    assert infos["imagegen_gpu_info"]["backend"] == "cpu"


async def test_too_little_memory_is_counted_by_the_try(house, requester):
    """Two tries that failed for it are two, though the caller hears of one."""
    service = house.service()
    before = await asyncio.to_thread(counted, service, "out_of_memory_total")
    reply = await requester.ask({"prompt": "oom", "width": 256, "height": 256})
    assert reply["error"]["code"] == "out_of_memory"
    await asyncio.to_thread(service.wait, "settled")
    assert await asyncio.to_thread(counted, service, "out_of_memory_total") == before + 2


async def test_a_lost_connection_is_counted_with_its_reason(house, broker):
    """An operator who closes a connection of ours finds that counted as such, once."""
    service = house.restart()
    name = await asyncio.to_thread(_connection, broker)
    await asyncio.to_thread(broker.api, f"connections/{quote(name)}", "DELETE")
    await asyncio.to_thread(service.wait, "broker_connected", generation=2)
    by_reason = {
        reason: await asyncio.to_thread(counted, service, "reconnects_total", reason=reason)
        for reason in metrics.LOST_BY
    }
    assert by_reason.pop("connection_closed") == 1
    assert set(by_reason.values()) == {0}


def _connection(broker):
    """The name of the service's connection for consuming, once the broker lists it."""
    while True:
        for connection in broker.api("connections"):
            if connection["client_properties"].get("connection_name") == "tester consume":
                return connection["name"]
        time.sleep(0.1)


def test_a_loop_that_stands_still_shows_in_its_lag():
    """The gauge is asked in the HTTP thread, so it goes on rising while the loop does not run."""
    service = Service(Settings(amqp_url="amqp://nobody/", port=0))
    service._board.snapshot = replace(
        service._board.snapshot, beat=service._board.snapshot.beat - 100.0
    )
    assert service._loop_lag_s() > 99.0


def test_what_the_gpu_does_not_tell_is_nan():
    """A number is shown as it is, a null or a missing reading as NaN, also after a number."""
    made = Metrics()
    made.show_gpu({"power_watts": 250.0, "temperature_celsius": 61})
    made.show_gpu({"power_watts": 240.5, "temperature_celsius": None})
    found = exposed(made.text().decode())
    assert found["imagegen_gpu_power_watts", frozenset()] == 240.5
    assert math.isnan(found["imagegen_gpu_temperature_celsius", frozenset()])
    assert math.isnan(found["imagegen_gpu_memory_used_bytes", frozenset()])


# ---------------------------------------------------------------- the containers beside it


def test_the_containers_of_monitoring_can_do_little():
    """Loopback only, no capability, nothing mounted that is not there, nobody to log in as."""
    document = yaml.safe_load((ROOT / "docker-compose.monitoring.yml").read_text())
    for service in document["services"].values():
        assert service["profiles"] == ["monitoring"]
        assert not service["image"].endswith("latest")
        assert int(service["user"].split(":")[0]) > 0
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["healthcheck"]["test"][0] == "CMD"
        for mount in service["volumes"]:
            if mount.startswith("."):
                assert mount.endswith(":ro")
                assert (ROOT / mount.split(":")[0]).exists()
    grafana = document["services"]["grafana"]["environment"]
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_what_is_provisioned_fits_together():
    """Grafana asks the Prometheus that stands beside it, and finds the dashboard where it looks."""
    folder = MONITORING / "grafana" / "provisioning"
    services = yaml.safe_load((ROOT / "docker-compose.monitoring.yml").read_text())["services"]
    (source,) = yaml.safe_load((folder / "datasources/imagegen.yml").read_text())["datasources"]
    assert urlsplit(source["url"]).hostname in services
    (provider,) = yaml.safe_load((folder / "dashboards/imagegen.yml").read_text())["providers"]
    place = f"{provider['options']['path']}/imagegen.json"
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])
    assert mounts["./monitoring/grafana/imagegen.json"] == place
    (job, _) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    interval = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == interval["scrape_interval"]
    assert job["static_configs"] == [{"targets": ["image-service:8034"]}]
