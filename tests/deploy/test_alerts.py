"""Each alert fires when it should and not otherwise, in `promtool`."""

from __future__ import annotations

import re
import subprocess

import pytest

from deploy.alert_cases import CASES, LONG, RELAY, when
from deploy.rules import PROMTOOL, ROOT, RULES, alerts, labels_of, level, needs_promtool, run


@needs_promtool
def test_the_rules_are_valid():
    checked = subprocess.run([PROMTOOL, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
@pytest.mark.parametrize(
    "longest",
    [
        pytest.param(50, id="minutes", marks=pytest.mark.slow),
        pytest.param(LONG, id="days", marks=pytest.mark.slow),
    ],
)
def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path, longest):
    selected = [case for case in CASES if (case.minutes <= 50) == (longest == 50)]
    assert len(selected) > 5
    ran = run(selected, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_promtool
def test_a_wrong_expectation_is_noticed(tmp_path):
    """So that the test above can fail."""
    ran = run([when("no tick", {RELAY: level((LONG, 90))}, after=60)], tmp_path)
    assert ran.returncode == 1
    assert "PgvectorSyncNoTick" in ran.stdout + ran.stderr


def severities() -> list[str]:
    return sorted({f"{alert['alert']} {alert['labels']['severity']}" for alert in alerts()})


@pytest.mark.parametrize("alert", severities())
def test_every_alert_has_cases_that_fire_and_that_do_not(alert):
    firing = [case for case in CASES if any(fired.startswith(alert) for fired in case.firing)]
    assert firing
    assert len(firing) < len(CASES)


@pytest.mark.parametrize(
    "alert", alerts(), ids=lambda alert: labels_of(f"{alert['alert']} {alert['labels']['severity']}")
)
def test_an_alert_says_what_it_means_and_where_to_read_on(alert):
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    assert re.fullmatch(r"\d+[mh]", alert["for"])
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    known = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", alert["expr"])))) or {"pipeline"}
    assert named <= known | ({"pipeline"} if "pipeline:" in alert["expr"] else set())


def test_the_docs_list_every_alert_with_its_severities():
    table = (ROOT / "docs/alerts.md").read_text("utf-8").split("## The alerts")[1]
    listed, name = set(), ""
    for cell, severity in re.findall(r"^\| (`\w+`|) ?\| .+ \| (\w+) \|$", table, re.MULTILINE):
        name = cell.strip("`") or name
        listed.add(f"{name} {severity}")
    assert listed == set(severities())
