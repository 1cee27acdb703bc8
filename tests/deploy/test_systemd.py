"""The units in `deploy/systemd`: accepted by systemd, and in step with the code that they start."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from pgvector_sync.settings import Settings
from support.command_lines import require_known, settings

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/pgvector-sync/bin/pgvector-sync"
ETC = "/etc/pgvector-sync/"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
RUNNING = ["pgvector-sync-beat.service", "pgvector-sync-serve.service", "pgvector-sync-worker@.service"]
WORKER = "pgvector-sync-worker@.service"


def values(unit: str, key: str) -> list[str]:
    """The values of a key in a unit, in order."""
    return re.findall(rf"^{key}=(.*)$", (FOLDER / unit).read_text("utf-8"), re.MULTILINE)


def command_line(unit: str) -> list[str]:
    [line] = values(unit, "ExecStart")
    program, *words = shlex.split(line)
    assert program == PROGRAM
    return words


def variables(file: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", (FOLDER / "env" / file).read_text("utf-8"), re.MULTILINE))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with a program that exists on this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze isn't installed, which checks units")
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.service"):
        path.write_text(path.read_text("utf-8").replace(PROGRAM, "/bin/true"), "utf-8")
    return tmp_path


def analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], cwd=folder, capture_output=True, text=True, check=False)


def complaints(folder: Path) -> str:
    """What systemd says about the units. It exits with 0 after ignoring a key that it doesn't know."""
    checked = analyze(folder, "verify", "--man=no", *(f"./{name}" for name in [*UNITS, "pgvector-sync.target"]))
    return checked.stderr + ("" if checked.returncode == 0 else f"exit code {checked.returncode}")


def test_systemd_accepts_every_unit(installed: Path) -> None:
    assert complaints(installed) == ""


def test_the_check_finds_a_misspelled_key(installed: Path) -> None:
    with (installed / WORKER).open("a") as unit:
        unit.write("[Service]\nTimeoutStopSeconds=60\n")
    assert "TimeoutStopSeconds" in complaints(installed)


def test_every_unit_is_hardened_by_the_shared_file(installed: Path) -> None:
    for name in UNITS:
        checked = analyze(installed, "security", "--offline=yes", "--threshold=20", f"./{name}")
        assert checked.returncode == 0, f"{name}: {checked.stdout[-200:]} {checked.stderr}"
    shutil.rmtree(installed / "pgvector-sync-.service.d")
    assert analyze(installed, "security", "--offline=yes", "--threshold=20", f"./{WORKER}").returncode != 0


@pytest.mark.parametrize("unit", UNITS)
def test_every_command_and_option_exists(unit: str) -> None:
    require_known(command_line(unit))


def test_every_variable_is_a_setting() -> None:
    files = {path.name for path in (FOLDER / "env").iterdir()}
    named = {value.removeprefix("-") for unit in UNITS for value in values(unit, "EnvironmentFile")}
    assert named == {f"{ETC}{name}" for name in files}
    assert set().union(*map(variables, files)) - {"OPENAI_API_KEY"} <= settings()


def test_each_process_gets_only_the_secrets_that_it_uses() -> None:
    secrets = {
        command_line(unit)[0]: {
            value.removeprefix("-").removeprefix(ETC).removesuffix(".env")
            for value in values(unit, "EnvironmentFile")
        }
        - {"settings"}
        for unit in UNITS
    }
    assert secrets == {
        "migrate": {"owner"},
        "apply": {"owner"},
        "worker": {"worker", "provider"},
        "beat": {"worker"},
        "serve": {"monitor"},
    }
    for name in ("owner", "worker", "provider", "monitor"):
        assert "CHANGE-ME" in (FOLDER / "env" / f"{name}.env").read_text("utf-8")


def test_a_worker_that_is_stopped_has_time_for_its_answers_in_flight() -> None:
    [seconds] = values(WORKER, "TimeoutStopSec")
    assert timedelta(seconds=int(seconds)) > Settings(_env_file=None).ends_after
    assert values(WORKER, "KillMode") == ["mixed"], "children of a prefork pool aren't signalled"


def test_workers_of_one_machine_have_different_names() -> None:
    """Which tells their lines in `status` and in the log apart."""
    words = command_line(WORKER)
    assert "%i" in words[words.index("--hostname") + 1]


def test_only_what_a_restart_can_fix_is_restarted() -> None:
    for unit in RUNNING:
        assert values(unit, "Restart") == ["on-failure"]
        assert values(unit, "RestartPreventExitStatus") == ["2"]
        assert values(unit, "PartOf") == values(unit, "WantedBy") == ["pgvector-sync.target"]
    for unit in set(UNITS) - set(RUNNING):
        assert values(unit, "Type") == ["oneshot"]


def test_workers_and_beat_wait_for_migrate_instead_of_restarting() -> None:
    for unit in ("pgvector-sync-beat.service", WORKER):
        assert "--wait" in command_line(unit)
