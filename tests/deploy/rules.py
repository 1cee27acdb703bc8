"""Runs the Prometheus rules in `promtool` over series that a test describes, and returns the alerts that fire."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool isn't installed (Debian: apt install prometheus)"
)


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> list[dict]:
    return [rule for rule in rules() if "alert" in rule]


@dataclass(frozen=True)
class Case:
    """What fires after some minutes of these series, which have one sample per minute."""

    name: str
    minutes: int
    series: Mapping[str, Sequence[float | None]]
    """None: no sample."""
    firing: frozenset[str] = field(default_factory=frozenset)
    """`alert severity`, followed by the value of the label `state` or `component`, if the alert has one."""


def level(*phases: tuple[int, float]) -> list[float]:
    """A gauge: for so many minutes this value, then …"""
    return [value for minutes, value in phases for _ in range(minutes)]


def growth(*phases: tuple[int, float]) -> list[float]:
    """A counter: for so many minutes it grows by so much per minute, then …"""
    return list(accumulate((step for minutes, step in phases for _ in range(minutes)), initial=0))


def run(cases: Sequence[Case], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs all cases; promtool exits with an error if in any of them other alerts fire than expected."""
    file = folder / "cases.yml"
    tests = [
        {
            "name": case.name,
            "interval": "1m",
            "input_series": [
                # later samples would only take time
                {"series": name, "values": " ".join(map(written, values[: case.minutes + 1]))}
                for name, values in case.series.items()
            ],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname, severity, state, component) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{case.minutes}m",
                    "exp_samples": [{"labels": labels_of(alert), "value": 1} for alert in sorted(case.firing)],
                }
            ],
        }
        for case in cases
    ]
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}), "utf-8"
    )
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=100
    )


def firing(series: Mapping[str, Sequence[float | None]], minutes: int, folder: Path) -> set[str]:
    """What fires after so many minutes, in the form of `Case.firing`."""
    ran = run(
        [Case("", minutes, series, frozenset({"none expected"}))], folder
    )  # which promtool answers with what it got
    got = re.search(r"got: (.+)", ran.stdout + ran.stderr)
    assert got, ran.stdout + ran.stderr
    alerts = re.findall(r"\{([^}]+)\}", got[1])
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', alert)) for alert in alerts]
    names = ("alertname", "severity", "state", "component")
    return {" ".join(alert[name] for name in names if name in alert) for alert in labels}


def written(value: float | None) -> str:
    return "_" if value is None else f"{value:.10g}"


def labels_of(alert: str) -> str:
    name, severity, *detail = alert.split()
    labels = {"alertname": name, "severity": severity}
    if detail:
        labels["component" if name == "PgvectorSyncNoTick" else "state"] = detail[0]
    return "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


METRIC = re.compile(r"\b(?P<name>pgvector_sync_[a-z0-9_]+)(?:\{(?P<selectors>[^}]*)\})?")
RECORDED = re.compile(r"\bpipeline:[a-z0-9_:]+")
GROUPED = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")


def metrics_in(expression: str) -> Iterable[tuple[str, set[str]]]:
    """Each metric of ours in a PromQL expression, with the labels that its selector names."""
    for found in METRIC.finditer(RECORDED.sub("", expression)):
        selectors = found["selectors"] or ""
        yield found["name"], set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors))


def grouped_by(expression: str) -> set[str]:
    """The labels that an expression groups or joins by."""
    return {label for labels in GROUPED.findall(expression) for label in re.findall(r"\w+", labels)}
