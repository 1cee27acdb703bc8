"""Workers whose processes set a tracer provider, as the page describes, record their spans; all others record nothing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster
from support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "traces.md"
AT_ONCE = "\nset_up()\n"
Span = dict[str, Any]


def module(folder: Path) -> str:
    """The module of the page, with an exporter that writes to a file per process."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exporter = (
        f"ConsoleSpanExporter(out=open(f'{folder}/{{os.getpid()}}.jsonl', 'a'), "
        "formatter=lambda span: span.to_json(indent=None) + '\\n')"
    )
    assert "OTLPSpanExporter()" in code
    code = code.replace("OTLPSpanExporter()", exporter)
    code = re.sub(
        r"from opentelemetry\.exporter.*\n",
        "from opentelemetry.sdk.trace.export import ConsoleSpanExporter\n",
        code,
    )
    return "import os\n" + code


def recorded(folder: Path) -> list[tuple[str, Span]]:
    """The spans of all processes, each with the name of its process's file."""
    return [
        (file.stem, json.loads(line))
        for file in folder.glob("*.jsonl")
        for line in file.read_text("utf-8").splitlines()
    ]


def traced_worker(cluster: Cluster, tmp_path: Path, pool: str, addition: str = "") -> list[tuple[str, Span]]:
    """The spans of a worker that has processed some batches and was stopped."""
    cluster.synced.declare(batch_size=5)
    cluster.synced.apply()
    cluster.synced.endpoint.latency = 0.2
    folder = tmp_path / "spans"
    folder.mkdir()
    (tmp_path / "tracing.py").write_text(module(folder) + addition, "utf-8")
    worker = cluster.processes.command(
        "worker", "--pool", pool, "--concurrency", "2", "--include", "tracing", PYTHONPATH=path_with(tmp_path)
    )
    worker.wait_for("worker_ready")
    cluster.insert(40)
    cluster.settles()
    assert worker.terminate() == 0
    spans = recorded(folder)
    [batches] = [[span for _, span in spans if span["name"] == "process docs"]]
    assert sum(batch["attributes"]["pgvector_sync.stored"] for batch in batches) == 40
    for name in ("claim", "embeddings text-embedding-3-small", "write"):
        inside = [span["parent_id"] for _, span in spans if span["name"] == name]
        assert sorted(inside) == sorted(batch["context"]["span_id"] for batch in batches), name
    return spans


def path_with(folder: Path) -> str:

    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.mark.slow
def test_each_process_of_a_prefork_worker_records_its_batches_and_flushes_them_at_the_end(
    cluster: Cluster, tmp_path: Path
) -> None:
    spans = traced_worker(cluster, tmp_path, "prefork")
    assert len({process for process, _ in spans}) == 2


@pytest.mark.slow
def test_a_provider_that_was_set_before_the_fork_works_as_well(cluster: Cluster, tmp_path: Path) -> None:
    early = AT_ONCE + "worker_process_init.disconnect(set_up)\n"
    spans = traced_worker(cluster, tmp_path, "prefork", early)
    assert spans


@pytest.mark.slow
def test_so_do_threads(cluster: Cluster, tmp_path: Path) -> None:
    addition = AT_ONCE + "import atexit; atexit.register(flush)\n"
    spans = traced_worker(cluster, tmp_path, "threads", addition)
    assert len({process for process, _ in spans}) == 1


@pytest.mark.slow
def test_a_worker_without_the_api_works_as_well(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError\n", "utf-8")
    worker = cluster.worker(PYTHONPATH=path_with(tmp_path))
    cluster.insert(10)
    cluster.settles()
    assert "Traceback" not in worker.printed
    eventually(lambda: "write" in worker.printed, what="the batch is logged")
    assert worker.terminate() == 0
