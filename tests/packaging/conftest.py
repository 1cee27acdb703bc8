"""The wheel, built once for all tests of the folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = "from hatchling.builders.wheel import WheelBuilder; import sys; "
    build += "print(*WheelBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=['standard']))"
    subprocess.run([sys.executable, "-c", build, ROOT, folder], check=True, cwd=folder, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel
