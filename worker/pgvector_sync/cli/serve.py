"""`serve`: metrics, probes and the status page over HTTP."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from pgvector_sync.cli import environment
from pgvector_sync.errors import ConfigError

DEFAULT_PORT = 8187
"""Not 9187, which postgres_exporter uses by default, often on the same machine."""
PACKAGES = ("starlette", "uvicorn", "jinja2", "prometheus_client")
"""What the extra `web` installs."""


def register(app: typer.Typer) -> None:
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0: a free one.")] = DEFAULT_PORT,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help="Allow another address than loopback without a token: something else controls access.",
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", help="A name under which browsers may ask without a token. Repeatable."),
    ] = None,
) -> None:
    """Serve metrics, probes and the status page over HTTP, read-only. PGVECTOR_SYNC_SERVE_TOKEN sets a token."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"not installed: {', '.join(missing)}", where="serve", hint="pip install 'pgvector-sync[web]'"
        )
    from pgvector_sync.settings import load_settings
    from pgvector_sync.web import server

    environment.use_embedded_if_running()
    server.run(load_settings(), host=host, port=port, require_token=not no_token, allowed_hosts=allowed_host or ())
