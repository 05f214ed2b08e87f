"""Prometheus' rules, by promtool: right, each alert tried on its own trouble, silent on a healthy day."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.prometheus import MONITORING, program

HEALTHY = "a healthy day"


def promtool(*arguments, folder=MONITORING):
    """Run it; returns its exit code and what it says."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def alerts():
    document = yaml.safe_load((MONITORING / "alerts.rules.yml").read_text())
    return [rule["alert"] for group in document["groups"] for rule in group["rules"]]


def cases():
    return yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]


def test_the_configuration_is_right():
    """Prometheus would load it, with both rule files, and its linter has nothing to say."""
    code, said = promtool("check", "config", "--lint-fatal", "prometheus.yml")
    assert code == 0, said
    assert "2 rule files found" in said


def test_every_alert_fires_on_its_own_trouble_and_none_on_a_healthy_day():
    """All cases of rules.test.yml hold, each of which names all alerts that fire in it."""
    code, said = promtool("test", "rules", "rules.test.yml")
    assert code == 0, said


def test_every_alert_has_its_case():
    """None is left out: each is the only one expected in some case, and the day expects none."""
    alone = set()
    for case in cases():
        for check in case["promql_expr_test"]:
            named = {
                name
                for sample in check["exp_samples"]
                for name in re.findall(r'alertname="(\w+)"', sample["labels"])
            }
            if named:
                assert 'ALERTS{alertstate="firing"}' in check["expr"]
                assert len(named) == 1
                alone |= named
    assert alone == set(alerts())
    (day,) = (case for case in cases() if case["name"] == HEALTHY)
    assert day["promql_expr_test"][0] == {
        "expr": 'count_over_time(ALERTS{alertstate="firing"}[25h])',
        "eval_time": "25h",
        "exp_samples": [],
    }


@pytest.fixture
def copy(tmp_path):
    """The rules and their tests without the long days, to be spoilt."""
    for name in ("recording.rules.yml", "alerts.rules.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    document = yaml.safe_load((MONITORING / "rules.test.yml").read_text())
    document["tests"] = [
        case
        for case in document["tests"]
        if all("h" not in check["eval_time"] for check in case["promql_expr_test"])
    ]
    (tmp_path / "rules.test.yml").write_text(yaml.safe_dump(document))
    return tmp_path


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("queue_fill:ratio > 0.8", "queue_fill:ratio > 0.9"),
        ("for: 20m", "for: 22m"),
        ("increase15m >= 10", "increase15m >= 0"),
        ("imagegen_draining == 0", "imagegen_draining >= 0"),
        ("> 100\n", "> 90\n"),
    ],
)
def test_a_spoilt_rule_is_noticed(copy, right, wrong):
    """The cases hold for the rules as they are, and not for any that are near."""
    assert promtool("test", "rules", "rules.test.yml", folder=copy)[0] == 0
    file = copy / "alerts.rules.yml"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    code, said = promtool("test", "rules", "rules.test.yml", folder=copy)
    assert code != 0, said
