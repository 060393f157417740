"""The services of compose.yaml: which can be reached, what they may do, and what they wait for."""
# [Task]: T175 [From]: specs/features/hosting.md

from typing import Any

import pytest

from config import NAMES, Settings
from tests.compose import TEXT, VARIABLE, composed
from tests.server import ROOT

pytestmark = pytest.mark.requirement("T175")

SECRETS = {"POSTGRES_PASSWORD": "one-secret", "AUTH_SECRET": "another-secret"}
CONTENT = composed(**SECRETS)
SERVICES = CONTENT["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
VARIABLES = {variable["name"]: variable["default"] for variable in VARIABLE.finditer(TEXT)}


def test_only_the_proxy_can_be_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if {"ports", "network_mode"} & service.keys()] == ["proxy"]


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_has_a_default(name: str) -> None:
    assert TEXT.count("${") == len(VARIABLE.findall(TEXT))
    assert {name for name, default in VARIABLES.items() if default is None} == SECRETS.keys()
    with pytest.raises(KeyError, match=name):
        composed(**{other: value for other, value in SECRETS.items() if other != name})


def test_the_reason_for_a_secret_names_its_page() -> None:
    assert all(
        (ROOT / one["reason"].removeprefix("see ")).is_file() for one in VARIABLE.finditer(TEXT) if one["reason"]
    )


def test_its_variables_can_stand_in_the_services_own_file() -> None:
    # Compose reads .env, too.
    assert VARIABLES.keys().isdisjoint(name.upper() for name in NAMES)


@pytest.mark.parametrize("name", OURS)
def test_what_we_build_may_do_no_more_than_serve(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "volumes" not in service


def test_the_service_has_the_time_to_stop() -> None:
    assert (
        int(SERVICES["api"]["stop_grace_period"].removesuffix("s")) > Settings.model_fields["shutdown_timeout"].default
    )


def has_healthcheck(service: dict[str, Any]) -> bool:
    return "healthcheck" in service or "\nHEALTHCHECK " in (ROOT / service["build"] / "Dockerfile").read_text()


def test_what_is_waited_for_tells_whether_it_is_healthy() -> None:
    waited_for = {
        (name, condition["condition"])
        for service in SERVICES.values()
        for name, condition in service.get("depends_on", {}).items()
    }

    assert {name for name, _ in waited_for} == {"db", "web", "api"}
    assert {condition for _, condition in waited_for} == {"service_healthy"}
    assert all(has_healthcheck(SERVICES[name]) for name, _ in waited_for)


def test_the_service_and_the_app_have_the_same_database() -> None:
    db = SERVICES["db"]["environment"]
    url = f"postgresql://{db['POSTGRES_USER']}:{db['POSTGRES_PASSWORD']}@db:5432/{db['POSTGRES_DB']}?sslmode=disable"

    assert [SERVICES[name]["environment"]["DATABASE_URL"] for name in OURS] == [url, url]


def test_what_is_kept_is_kept_in_volumes() -> None:
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]

    named = {source for source, *_ in mounted if "/" not in source}
    assert named == CONTENT["volumes"].keys()
    assert all((ROOT / source).is_file() and rest[1:] == ["ro"] for source, *rest in mounted if "/" in source)
