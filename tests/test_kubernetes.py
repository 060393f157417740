"""The files of deploy/kubernetes/, compared with Kubernetes' schemas and with the service."""
# [Task]: T177 [From]: specs/features/hosting.md

import re
import sys
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate  # type: ignore[import-untyped] # it ships no types
import pytest
import yaml  # type: ignore[import-untyped] # schemathesis brings it, without types

from main import app
from readiness import CHECK_SECONDS
from runtime.startup import START_PATIENCE_SECONDS
from tests.databases import MakeDatabase
from tests.leaks import SECRET
from tests.server import INHERITED, ROOT, running_process
from tests.service import User, make_settings

pytestmark = pytest.mark.requirement("T177")

FILES = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
OBJECTS = {one["kind"]: one for file in FILES for one in yaml.safe_load_all(file.read_text())}
# The first that knows all that is used, and the latest that the schemas know.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
MIGRATION = OBJECTS["Job"]["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]
(MIGRATE,) = MIGRATION["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", OBJECTS)
def test_kubernetes_knows_each_field(kind: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("Deployment", {"replica": 2}),
        ("Deployment", {"replicas": "two"}),
        ("Job", {"backoffLimits": 3}),
        ("Service", {"ports": 80}),
        ("PodDisruptionBudget", {"minAvailable": []}),
    ],
)
def test_a_wrong_field_is_told(kind: str, wrong: dict[str, Any]) -> None:
    broken = OBJECTS[kind] | {"spec": OBJECTS[kind]["spec"] | wrong}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_there_are_no_other_objects_and_no_secret() -> None:
    assert OBJECTS.keys() == {"Deployment", "Job", "PodDisruptionBudget", "Service"}
    for container in (SERVER, MIGRATE):
        assert container["envFrom"] == [{"secretRef": {"name": "todo-api"}}]
    # Settings that aren't secret.
    for variable in SERVER["env"]:
        assert variable["name"] in {"DB_MIGRATE_ON_START", "REQUIRE_HTTPS", "FORWARDED_ALLOW_IPS"}


def test_the_objects_belong_together() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [OBJECTS[kind]["spec"]["selector"] for kind in ("Deployment", "PodDisruptionBudget", "Service")]
    spread = [one["labelSelector"] for one in POD["topologySpreadConstraints"]]

    assert all(selector.get("matchLabels", selector) == labels for selector in (*selectors, *spread))
    # Else requests would reach the job, too.
    assert OBJECTS["Job"]["spec"]["template"]["metadata"]["labels"] != labels
    ((port, exposed),) = zip(SERVER["ports"], OBJECTS["Service"]["spec"]["ports"], strict=True)
    assert exposed["targetPort"] == port["name"]
    assert SERVER["command"][SERVER["command"].index("--port") + 1] == f"{port['containerPort']}"
    assert MIGRATE["image"] == SERVER["image"]


def test_no_container_has_more_rights_than_it_needs() -> None:
    user, group = map(int, re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1])
    for pod, container in ((POD, SERVER), (MIGRATION, MIGRATE)):
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (user, group)
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_waits_of_kubernetes_are_longer_than_the_services() -> None:
    started, ready = SERVER["startupProbe"], SERVER["readinessProbe"]
    paused = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert POD["terminationGracePeriodSeconds"] > paused + make_settings().shutdown_timeout
    assert started["periodSeconds"] * started["failureThreshold"] > START_PATIENCE_SECONDS
    assert ready["timeoutSeconds"] > CHECK_SECONDS
    paths = {probe["httpGet"]["path"] for name, probe in SERVER.items() if name.endswith("Probe")}
    assert (
        paths
        == {"/health", "/ready"}
        <= {getattr(route, "path", None) for route in app.routes} | app.openapi()["paths"].keys()
    )


async def test_the_pod_serves_what_the_job_migrated(make_database: MakeDatabase) -> None:
    secrets = {"BETTER_AUTH_SECRET": SECRET, "DATABASE_URL": await make_database("postgresql")}
    environment = INHERITED | secrets | {"PYTHONUNBUFFERED": "1"}
    programs = Path(sys.executable).parent
    settings = {variable["name"]: variable["value"] for variable in SERVER["env"]}
    # The proxy is here, and needs a port that is free.
    settings["FORWARDED_ALLOW_IPS"] = "127.0.0.1"
    here = {"0.0.0.0": "127.0.0.1", "8000": "0"}
    serve = [here.get(word, word) for word in SERVER["command"]]

    async with running_process(f"{programs}/{serve[0]}", *serve[1:], cwd=ROOT, env=environment | settings) as early:
        # It migrates nothing itself.
        assert await early.end() != 0
        assert "alembic upgrade head" in early.output
    async with running_process(
        f"{programs}/{MIGRATE['command'][0]}", *MIGRATE["command"][1:], cwd=ROOT, env=environment
    ) as job:
        assert await job.end() == 0, job.output
    async with (
        running_process(f"{programs}/{serve[0]}", *serve[1:], cwd=ROOT, env=environment | settings) as server,
        httpx.AsyncClient(base_url=await server.url()) as client,
    ):
        # Kubernetes asks by plain HTTP and without a token; nobody else may.
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert (await client.get(SERVER[name]["httpGet"]["path"])).status_code == 200
        assert (await User(client, "ada").get()).status_code == 403
        assert (await User(client, "ada").get(headers={"X-Forwarded-Proto": "https"})).status_code == 200
