"""Generates the Grafana dashboard from panels.toml: `python deploy/grafana/dashboard.py` writes dashboard.json."""

# ruff: noqa: INP001

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PANELS, FILE = FOLDER / "panels.toml", FOLDER / "dashboard.json"
DATABASE = 'job="$job", database=~"$database"'
PIPELINE = DATABASE + ', pipeline=~"$pipeline"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
STACKED = {"stacking": {"mode": "normal"}, "fillOpacity": 30}
BARS = {"drawStyle": "bars", "fillOpacity": 60}


def selected(query: str) -> str:
    """The query with its selectors."""
    return query.replace("PIPELINE", PIPELINE).replace("DATABASE", DATABASE)


def quantiles(histogram: str) -> dict[str, str]:
    """The queries for the percentiles of a histogram, per pipeline."""
    buckets = re.sub(r"\{", "_bucket{", histogram, count=1)
    rate = f"max by (database, pipeline, le) (rate({buckets}[$__rate_interval]))"
    return {
        f"{{{{pipeline}}}} p{percent}": f"histogram_quantile({percent / 100:g}, {rate})"
        for percent in (50, 95, 99)
    }


def panel_json(number: int, panel: dict[str, Any], x: int, y: int) -> dict[str, Any]:
    stat = panel.get("type") == "stat"
    steps = [{"color": "green", "value": None}]
    if stat:
        steps = [
            {"color": "red", "value": None},
            {"color": "orange", "value": panel["red_below"]},
            {"color": "green", "value": panel["green_from"]},
        ]
    queries = panel.get("queries") or quantiles(panel["quantiles"])
    return {
        "id": number,
        "type": panel.get("type", "timeseries"),
        "title": panel["title"],
        "description": panel.get("description", ""),
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel["unit"],
                "custom": (STACKED if panel.get("stacked") else {}) | (BARS if panel.get("bars") else {}),
                "color": {"mode": "thresholds" if stat else "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {} if stat else {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": selected(query),
                "legendFormat": legend,
                "instant": stat,
                "range": not stat,
            }
            for index, (legend, query) in enumerate(queries.items())
        ],
    }


def panels() -> list[dict[str, Any]]:
    laid_out: list[dict[str, Any]] = []
    y = 0
    for row in tomllib.loads(PANELS.read_text("utf-8"))["row"]:
        laid_out.append(
            {
                "id": len(laid_out) + 1,
                "type": "row",
                "title": row["title"],
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        x, y = 0, y + 1
        for panel in row["panel"]:
            if x + WIDTH > COLUMNS:
                x, y = 0, y + HEIGHT
            laid_out.append(panel_json(len(laid_out) + 1, panel, x, y))
            x += WIDTH
        y += HEIGHT
    return laid_out


def variable(name: str, label: str, query: str, *, several: bool) -> dict[str, Any]:
    every = {
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        **(every if several else {"multi": False, "includeAll": False}),
    }


def dashboard() -> dict[str, Any]:
    of_job = 'label_values(pgvector_sync_up{job="$job"}, database)'
    of_database = f"label_values(pgvector_sync_pipeline_state{{{DATABASE}}}, pipeline)"
    return {
        "title": "pgvector-sync",
        "uid": "pgvector-sync",
        "description": "Whether search is fresh, what is stuck, and what it costs.",
        "tags": ["pgvector-sync"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "graphTooltip": 1,
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
                variable("job", "Job", "label_values(pgvector_sync_up, job)", several=False),
                variable("database", "Database", of_job, several=True),
                variable("pipeline", "Pipeline", of_database, several=True),
            ]
        },
        "panels": panels(),
    }


def written() -> str:
    """The text of dashboard.json."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), "utf-8")
