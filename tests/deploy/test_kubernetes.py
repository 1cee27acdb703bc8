"""The manifests in `deploy/kubernetes`: valid for the API, and in step with the code that they start."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgvector_sync.declare.file import load_config
from pgvector_sync.settings import Settings
from support.command_lines import require_known, settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.33", "1.37"
"""The versions of Kubernetes whose schemas are checked: those that the project supported in 2026."""
ENTRY_POINT = "pgvector-sync"
PROVIDER_KEYS = {"OPENAI_API_KEY"}
Manifest = dict[str, Any]


@cache
def written() -> list[Manifest]:
    """Every object in the folder's files, as written, without what the kustomization adds."""
    files = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"})
    return [found for file in files for found in yaml.safe_load_all(file.read_text("utf-8"))]


def kustomized(folder: Path) -> list[Manifest]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl isn't installed, which renders kustomizations")
    run = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


def require_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(manifest, version, strict=True)


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def one(kind: str, name: str) -> Manifest:
    [found] = [m for m in written() if named(m) == f"{kind} pgvector-sync{name}"]
    return found


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The specification of the Pods of each workload, by the workload's component."""
    return {
        m["metadata"]["labels"]["app.kubernetes.io/component"]: m["spec"]["template"]["spec"]
        for m in manifests
        if m["kind"] in {"Deployment", "Job"}
    }


def containers() -> list[tuple[str, Manifest]]:
    return [(name, container) for name, pod in pods(written()).items() for container in pod["containers"]]


def container(component: str) -> Manifest:
    [found] = [c for name, c in containers() if name == component]
    return found


def commands() -> list[list[str]]:
    """The command lines of all containers and probes, without the entry point of the image."""
    lines = [c["args"] for _, c in containers()]
    for _, c in containers():
        probes = (c.get(f"{kind}Probe", {}).get("exec") for kind in ("liveness", "readiness", "startup"))
        for probe in filter(None, probes):
            assert probe["command"][0] == ENTRY_POINT
            lines.append(probe["command"][1:])
    return lines


@pytest.mark.parametrize("version", [pytest.param(OLDEST, marks=pytest.mark.slow), NEWEST])
@pytest.mark.parametrize("manifest", written(), ids=named)
def test_every_file_is_valid_for_the_api(manifest: Manifest, version: str) -> None:
    require_valid(manifest, version)


def test_the_check_of_the_schema_finds_a_misspelled_field() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = yaml.safe_load(yaml.safe_dump(one("Deployment", "-worker")))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        require_valid(wrong, NEWEST)


def test_the_kustomization_has_every_file_and_is_valid() -> None:
    rendered = kustomized(FOLDER)
    for manifest in rendered:
        require_valid(manifest, NEWEST)
    optional = {named(m) for m in written() if m["kind"] in {"Secret", "HorizontalPodAutoscaler"}}
    generated = {f"ConfigMap {m['metadata']['name']}" for m in rendered if m["kind"] == "ConfigMap"}
    assert {named(m) for m in rendered} - generated == {named(m) for m in written()} - optional
    for pod in pods(rendered).values():
        assert pod["containers"][0]["image"] == f"pgvector-sync:{released()}"


def released() -> str:
    """The version in pyproject.toml, whose image the kustomization names."""
    match = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert match
    return match[1]


def test_a_changed_setting_restarts_what_reads_it() -> None:
    """The generated name of the ConfigMap ends in a hash of its content, so the templates of the Pods change."""
    for component, pod in pods(kustomized(FOLDER)).items():
        names = [
            source["configMapRef"]["name"]
            for source in pod["containers"][0]["envFrom"]
            if "configMapRef" in source
        ]
        assert [name for name in names if re.fullmatch(r"pgvector-sync-settings-\w{10}", name)], component


def test_every_object_that_is_referred_to_exists() -> None:
    generators = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))["configMapGenerator"]
    known = {f"ConfigMap {g['name']}" for g in generators} | {named(m) for m in written()}
    for name, pod in pods(written()).items():
        for source in pod["containers"][0]["envFrom"]:
            [(kind, reference)] = source.items()
            assert f"{'Secret' if kind == 'secretRef' else 'ConfigMap'} {reference['name']}" in known, name
        for volume in pod.get("volumes", []):
            assert "configMap" not in volume or f"ConfigMap {volume['configMap']['name']}" in known
        for selected in (m for m in written() if m["kind"] == "HorizontalPodAutoscaler"):
            target = selected["spec"]["scaleTargetRef"]
            assert f"{target['kind']} {target['name']}" in known


def test_no_manifest_names_a_namespace_or_a_registry() -> None:
    for manifest in written():
        assert "namespace" not in manifest["metadata"], named(manifest)
    assert {c["image"] for _, c in containers()} == {"pgvector-sync"}


def test_selectors_select_the_pods_that_they_are_meant_for() -> None:
    labels = {
        name: m["spec"]["template"]["metadata"]["labels"]
        for m in written()
        if m["kind"] == "Deployment" and (name := m["metadata"]["labels"]["app.kubernetes.io/component"])
    }

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, have in labels.items() if selector.items() <= have.items()}

    for name in labels:
        assert selected(one("Deployment", f"-{name}")["spec"]["selector"]["matchLabels"]) == {name}
    assert selected(one("Service", "-serve")["spec"]["selector"]) == {"serve"}
    assert selected(one("PodDisruptionBudget", "-worker")["spec"]["selector"]["matchLabels"]) == {"worker"}
    assert selected(one("NetworkPolicy", "-serve")["spec"]["podSelector"]["matchLabels"]) == {"serve"}
    assert selected(one("NetworkPolicy", "")["spec"]["podSelector"]["matchLabels"]) == set(labels)


@pytest.mark.parametrize("line", commands(), ids=" ".join)
def test_every_command_and_option_exists(line: list[str]) -> None:
    require_known(line)


def test_every_variable_is_a_setting() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
    names = {entry["name"] for _, c in containers() for entry in c.get("env", [])}
    names |= {name for m in written() if m["kind"] == "Secret" for name in m["stringData"]}
    names |= {line.split("=")[0] for g in kustomization["configMapGenerator"] for line in g.get("literals", [])}
    assert names - PROVIDER_KEYS <= settings()


def test_a_worker_that_is_stopped_has_time_for_its_answers_in_flight() -> None:
    pod = pods(written())["worker"]
    grace = timedelta(seconds=pod["terminationGracePeriodSeconds"])
    assert grace > Settings(_env_file=None).ends_after


def test_workers_and_beat_wait_for_migrate_instead_of_crashing() -> None:
    assert "--wait" in container("worker")["args"]
    assert "--wait" in container("beat")["args"]


def test_nothing_restarts_a_worker_because_a_server_is_down() -> None:
    for name in ("worker", "beat"):
        assert container(name)["livenessProbe"]["exec"]["command"] == [ENTRY_POINT, "probe", name, "--live"]
        assert container(name)["readinessProbe"]["exec"]["command"] == [ENTRY_POINT, "probe", name]


def test_the_ports_of_serve_are_equal() -> None:
    args = container("serve")["args"]
    port = int(args[args.index("--port") + 1])
    assert args[args.index("--host") + 1] == "0.0.0.0"
    assert container("serve")["ports"] == [{"name": "http", "containerPort": port}]
    assert one("Service", "-serve")["spec"]["ports"][0]["targetPort"] == "http"
    assert one("NetworkPolicy", "-serve")["spec"]["ingress"][0]["ports"][0]["port"] == "http"
    probes = [container("serve")[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")]
    assert probes == [{"path": "/livez", "port": "http"}, {"path": "/readyz", "port": "http"}]


def test_every_container_runs_without_privileges() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    user = re.search(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    assert user
    for name, pod in pods(written()).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": int(user[1]),
            "runAsGroup": int(user[2]),
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        for c in pod["containers"]:
            assert c["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert c["resources"]["limits"].keys() == {"memory"}, (
                "a CPU limit would throttle a worker between calls"
            )
            assert c["resources"]["requests"].keys() == {"cpu", "memory"}


def test_each_process_gets_only_the_secrets_that_it_uses() -> None:
    secrets = {
        name: {s["secretRef"]["name"].removeprefix("pgvector-sync-") for s in c["envFrom"] if "secretRef" in s}
        for name, c in containers()
    }
    assert secrets == {
        "migrate": {"owner"},
        "apply": {"owner"},
        "worker": {"worker", "provider"},
        "beat": {"worker"},
        "serve": {"monitor"},
    }


def test_the_example_of_secrets_has_none() -> None:
    for secret in (m for m in written() if m["kind"] == "Secret"):
        for name, value in secret["stringData"].items():
            assert re.sub(r"CHANGE-ME", "", value) != value, name


def test_the_example_of_pipelines_is_valid() -> None:
    mounted = container("apply")["volumeMounts"][0]["mountPath"]
    assert f"{mounted}/pgvector-sync.toml" in container("apply")["args"]
    assert "articles" in load_config(FOLDER / "pgvector-sync.toml").pipelines


def test_a_kustomization_of_your_own_sets_namespace_image_pipelines_and_settings(tmp_path: Path) -> None:
    """The one in docs/deploy.md."""
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    [block] = re.findall(r"<!-- tested: tests/deploy/test_kubernetes.py -->\n```yaml\n(.+?)```", page, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(block, "utf-8")
    (tmp_path / "pgvector-sync.toml").write_text("# my own", "utf-8")
    shutil.copytree(FOLDER, tmp_path / "pgvector-sync" / "deploy" / "kubernetes")
    rendered = kustomized(tmp_path)
    assert {m["metadata"]["namespace"] for m in rendered} == {"search"}
    images = {pod["containers"][0]["image"] for pod in pods(rendered).values()}
    assert images == {f"registry.example.com/pgvector-sync:{released()}"}
    data = [m["data"] for m in rendered if m["kind"] == "ConfigMap"]
    assert {"pgvector-sync.toml": "# my own"} in data
    [settings_] = [values for values in data if "pgvector-sync.toml" not in values]
    assert settings_["PGVECTOR_SYNC_ALLOWED_HOSTS"] == "models.example.com"
    assert settings_["PGVECTOR_SYNC_LOG_FORMAT"] == "json"
    assert {
        m["spec"]["replicas"]
        for m in rendered
        if m["metadata"]["name"] == "pgvector-sync-worker" and m["kind"] == "Deployment"
    } == {3}
