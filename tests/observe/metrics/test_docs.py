"""docs/metrics.md lists the metrics of the catalogue."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pgvector_sync.observe.metrics.catalogue import table

PAGE = Path(__file__).parents[3] / "docs/metrics.md"
REWRITE = bool(os.environ.get("PGVECTOR_SYNC_REWRITE_SNAPSHOT"))  # read before the fixtures clear the environment
TABLE = re.compile(
    r"(?<=<!-- written from observe/metrics/catalogue.py -->\n\n).*?(?=\n?\n<!-- end -->)", re.DOTALL
)


def test_the_page_has_the_table_of_the_catalogue() -> None:
    page = PAGE.read_text("utf-8")
    if REWRITE:
        page = TABLE.sub(table().replace("\\", r"\\"), page, count=1)
        PAGE.write_text(page, "utf-8")
    assert TABLE.findall(page) == [table()], (
        "PGVECTOR_SYNC_REWRITE_SNAPSHOT=1 pytest tests/observe/metrics/test_docs.py"
    )
