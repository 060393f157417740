"""The OpenAPI document, as TypeScript generators read it."""
# [Task]: T075, T076 [From]: specs/api/rest-endpoints.md

import tomllib
from pathlib import Path
from typing import Any

import pytest

from main import create_app
from schemas import ListQuery
from tests.service import Service, make_settings

DOCUMENT = create_app(make_settings()).openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    (method, path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}
BODY = {"408", "413", "415"}
ERRORS = {"401", "403", "422", "429", "500", "503"}


def schema_names(part: Any) -> set[str]:
    """Every schema that a part refers to."""
    if isinstance(part, dict):
        named = {part["$ref"].rpartition("/")[2]} if "$ref" in part else set()
        return named.union(*map(schema_names, part.values()))
    if isinstance(part, list):
        return set().union(*map(schema_names, part))
    return set()


@pytest.mark.requirement("T075")
def test_operation_ids_are_short_and_free_of_the_path() -> None:
    assert {key: operation["operationId"] for key, operation in OPERATIONS.items()} == {
        ("get", "/health"): "getHealth",
        ("get", "/ready"): "getReadiness",
        ("get", "/api/{user_id}/tasks"): "listTasks",
        ("post", "/api/{user_id}/tasks"): "createTask",
        ("delete", "/api/{user_id}/tasks"): "deleteTasks",
        ("post", "/api/{user_id}/tasks/bulk"): "createTasks",
        ("patch", "/api/{user_id}/tasks/bulk"): "completeTasks",
        ("get", "/api/{user_id}/tasks/events"): "watchTasks",
        ("get", "/api/{user_id}/tasks/{task_id}"): "getTask",
        ("put", "/api/{user_id}/tasks/{task_id}"): "updateTask",
        ("patch", "/api/{user_id}/tasks/{task_id}"): "patchTask",
        ("delete", "/api/{user_id}/tasks/{task_id}"): "deleteTask",
        ("patch", "/api/{user_id}/tasks/{task_id}/complete"): "completeTask",
    }


@pytest.mark.requirement("T076")
@pytest.mark.parametrize(
    ("operation_id", "statuses"),
    [
        ("listTasks", {"200", "304"} | ERRORS),
        ("createTask", {"201"} | BODY | ERRORS),
        ("deleteTasks", {"200"} | ERRORS),
        ("createTasks", {"201"} | BODY | ERRORS),
        ("completeTasks", {"200"} | BODY | ERRORS),
        ("watchTasks", {"200"} | ERRORS),
        ("getTask", {"200", "304", "404"} | ERRORS),
        ("updateTask", {"200", "404", "412"} | BODY | ERRORS),
        ("patchTask", {"200", "404", "412"} | BODY | ERRORS),
        ("deleteTask", {"204", "404", "412"} | ERRORS),
        ("completeTask", {"200", "404", "412"} | BODY | ERRORS),
        ("getHealth", {"200"}),
        ("getReadiness", {"200", "503"}),
    ],
)
def test_every_status_has_its_real_shape(operation_id: str, statuses: set[str]) -> None:
    (operation,) = [o for o in OPERATIONS.values() if o["operationId"] == operation_id]
    responses = operation["responses"]

    assert set(responses) == statuses
    for status in statuses - {"200", "201", "204", "304"}:
        schema = responses[status]["content"]["application/json"]["schema"]
        expected = "InvalidRequest" if status == "422" else "Problem"
        assert schema == {"$ref": f"#/components/schemas/{expected}"}
    assert all("content" not in responses[status] for status in statuses & {"204", "304"})


@pytest.mark.requirement("T076")
def test_every_field_of_an_answer_is_required() -> None:
    answers = schema_names([operation["responses"] for operation in OPERATIONS.values()])

    assert answers == {"TaskPublic", "DeletedTasks", "Problem", "InvalidRequest", "Health", "Readiness"}
    for name in answers | {"Fault"}:
        assert set(SCHEMAS[name]["required"]) == set(SCHEMAS[name]["properties"])


@pytest.mark.requirement("T076")
def test_every_schema_is_both_used_and_defined() -> None:
    assert schema_names(DOCUMENT) == set(SCHEMAS)


@pytest.mark.requirement("T076")
def test_bodies_are_named_and_say_what_is_required() -> None:
    bodies = {
        operation["operationId"]: schema_names(operation["requestBody"])
        for operation in OPERATIONS.values()
        if "requestBody" in operation
    }

    assert bodies == {
        "createTask": {"TaskCreate"},
        "createTasks": {"TasksCreate"},
        "updateTask": {"TaskUpdate"},
        "patchTask": {"TaskUpdate"},
        "completeTask": {"TaskComplete"},
        "completeTasks": {"TasksComplete"},
    }
    assert SCHEMAS["TaskCreate"]["required"] == ["title"]
    assert "required" not in SCHEMAS["TaskUpdate"] | SCHEMAS["TaskComplete"]
    for name in set().union(*bodies.values()):
        # TypeScript generators make a field with a default required.
        assert all("default" not in field for field in SCHEMAS[name]["properties"].values())
    for name in ("TaskCreate", "TaskUpdate"):
        title = SCHEMAS[name]["properties"]["title"]
        assert (title["type"], title["minLength"], title["maxLength"]) == ("string", 1, 200)
        assert title["examples"]


@pytest.mark.requirement("T076")
def test_parameters_have_their_types_and_bounds() -> None:
    parameters = {
        parameter["name"]: parameter["schema"] for parameter in OPERATIONS["get", "/api/{user_id}/tasks"]["parameters"]
    }

    assert set(parameters) == {"user_id", *ListQuery.model_fields, "If-None-Match"}
    limit = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert limit.items() <= parameters["limit"].items()
    assert parameters["offset"]["minimum"] == parameters["skip"]["minimum"] == 0
    assert parameters["completed"]["type"] == parameters["count"]["type"] == "boolean"
    assert parameters["status"]["enum"] == ["all", "pending", "completed"]
    assert parameters["sort"]["enum"] == ["created", "updated", "title"]
    assert parameters["search"]["maxLength"] == 200
    (task_id,) = [
        parameter["schema"]
        for parameter in OPERATIONS["get", "/api/{user_id}/tasks/{task_id}"]["parameters"]
        if parameter["name"] == "task_id"
    ]
    assert (task_id["type"], task_id["minimum"], task_id["maximum"]) == ("integer", 1, 2**63 - 1)


@pytest.mark.requirement("T076")
def test_task_routes_ask_for_a_bearer_token() -> None:
    scheme = DOCUMENT["components"]["securitySchemes"]["BearerAuth"]

    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
    for (_, path), operation in OPERATIONS.items():
        asks = operation.get("security")
        assert asks == ([{"BearerAuth": []}] if path.startswith("/api/") else None)


@pytest.mark.requirement("T076")
async def test_the_document_is_served(plain_service: Service) -> None:
    assert (await plain_service.client.get("/openapi.json")).json() == DOCUMENT


@pytest.mark.requirement("T076")
def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())

    assert DOCUMENT["info"]["version"] == project["project"]["version"]
