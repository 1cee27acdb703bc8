"""The Grafana dashboard is what its panels say, and Prometheus understands every query in it."""

from __future__ import annotations

import json
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations

import pytest
import yaml

from deploy.rules import PROMTOOL, ROOT, needs_promtool, rules

FOLDER = ROOT / "deploy/grafana"
SPEC = spec_from_file_location("dashboard", FOLDER / "dashboard.py")
generator = module_from_spec(SPEC)
SPEC.loader.exec_module(generator)
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_the_file_is_current():
    assert (FOLDER / "dashboard.json").read_text("utf-8") == generator.written(), (
        "run: python deploy/grafana/dashboard.py"
    )


def test_it_has_a_row_for_each_subject():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Freshness", "Throughput", "Provider", "Cost", "Dead letters and drift", "Recall", "Workers and database",
    ]  # fmt: skip


def test_data_source_and_pipeline_are_variables():
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "job", "database", "pipeline"]
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_ids_are_unique_and_no_panel_covers_another():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_follows_the_variables(query):
    assert query.count("{") == query.count('{job="$job", database=~"$database"')
    assert "PIPELINE" not in query
    assert "DATABASE" not in query


def test_every_recorded_series_is_recorded():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {word for query in QUERIES for word in query.replace("{", " ").split() if word.startswith("pipeline:")}
    assert used
    assert used <= recorded


@needs_promtool
def test_prometheus_understands_every_query(tmp_path):
    written = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": written}]}), "utf-8")
    checked = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(QUERIES)} rules found" in checked.stdout


@needs_promtool
def test_the_example_of_a_scrape_is_a_valid_configuration(tmp_path):
    config = yaml.safe_load((ROOT / "deploy/prometheus/scrape.yml").read_text("utf-8"))
    [file] = config["rule_files"]
    assert file.endswith("rules.yml")
    config["rule_files"] = [str(ROOT / "deploy/prometheus/rules.yml")]
    [job] = config["scrape_configs"]
    token = tmp_path / "token"
    token.write_text("secret")
    job["authorization"]["credentials_file"] = str(token)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    checked = subprocess.run(
        [PROMTOOL, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "pgvector" in job["job_name"]
    assert "secret" not in (ROOT / "deploy/prometheus/scrape.yml").read_text("utf-8")
