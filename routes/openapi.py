"""What the OpenAPI document says beyond what FastAPI finds by itself."""
# [Task]: T075, T076 [From]: specs/api/rest-endpoints.md

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from schemas import TaskCreate, TaskUpdate


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body `routes/task_route.py` reads instead of FastAPI."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def operation_id(route: APIRoute) -> str:
    """The function's name: short in a generated client, and free of the path."""
    return route.name


class DocumentedAPI(FastAPI):
    """FastAPI, with the schemas that `json_body` refers to in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for model in (TaskCreate, TaskUpdate):
            document["components"]["schemas"][model.__name__] = model.model_json_schema()
        return document
