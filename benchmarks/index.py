"""Makes a table of real sentences with its vectors, on which the commands of `index` can be tried and measured.

    python benchmarks/index.py FOLDER                       # 100,000 rows, a transformer of 384 dimensions
    python benchmarks/index.py FOLDER --model wordllama     # in a minute
    cd FOLDER && set -a && . ./.env && set +a
    pgvector-sync index advise sentences

Postgres runs from FOLDER until `python benchmarks/index.py FOLDER --stop`. `queries.txt` has 1,000 sentences that
aren't in the table: rows as queries overstate recall. The model runs on this machine: `minilm` embeds about 200
sentences per second and core. A run that was interrupted continues.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
from corpus import sentences

from pgvector_sync.local import embedded

QUERIES = 1_000
FILE = """
[pipelines.sentences]
source = "sentences"
text = ["body"]
provider = "local"
model = "{model}"
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="minilm", help="minilm or wordllama")
    parser.add_argument("--stop", action="store_true", help="stop Postgres")
    return parser.parse_args()


def load(url: str, rows: list[str]) -> None:
    """Create the source and fill it, unless it exists."""
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('sentences')").fetchone() != (None,):
            return
        connection.execute("CREATE TABLE sentences (id bigint PRIMARY KEY, body text NOT NULL)")
        with connection.cursor().copy("COPY sentences FROM STDIN") as copy:
            for number, body in enumerate(rows, 1):
                copy.write_row((number, body))


def main() -> None:
    options = arguments()
    folder = options.folder.resolve()
    if options.stop:
        embedded.stop(folder / "servers")
        return
    folder.mkdir(parents=True, exist_ok=True)
    servers = embedded.start(folder / "servers", postgres_options={"shared_buffers": "1GB"})
    environment = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    secret = folder / ".env"
    secret.touch(mode=0o600)
    secret.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
    (folder / "pgvector-sync.toml").write_text(FILE.format(model=options.model))
    texts = sentences(options.rows + QUERIES)
    (folder / "queries.txt").write_text("\n".join(texts[options.rows :]) + "\n")
    load(servers.database_url, texts[: options.rows])
    started = time.monotonic()
    for command in (("migrate",), ("apply", "--yes"), ("sync", "--once", "--timeout", "86400")):
        subprocess.run(
            [sys.executable, "-m", "pgvector_sync", *command], cwd=folder, env=os.environ | environment, check=True
        )
    print(f"{options.rows:,} rows in {time.monotonic() - started:,.0f} s")


if __name__ == "__main__":
    main()
