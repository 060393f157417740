"""The usual way: an ORM session for each request that asks its connection first (`pool_pre_ping`)
and commits on its way out, models loaded, changed and refreshed, each token verified.
"""
# [Task]: T083 [From]: specs/performance.md

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from models import Task

SECRET = os.environ["BETTER_AUTH_SECRET"]

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_pre_ping=True,
    pool_size=10,
    max_overflow=0,
)
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise


async def verify_user_access(
    user_id: str, credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
) -> str:
    try:
        claims = jwt.decode(credentials.credentials, SECRET, ["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401, "Invalid token") from None
    if claims["sub"] != user_id:
        raise HTTPException(403, "Cannot access another user's tasks")
    return user_id


SessionDep = Annotated[AsyncSession, Depends(get_session)]
CurrentUser = Annotated[str, Depends(verify_user_access)]


class TaskCreate(SQLModel):
    title: str
    description: str | None = None


class TaskUpdate(SQLModel):
    title: str | None = None
    description: str | None = None
    completed: bool | None = None


class TaskPublic(BaseModel):
    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


async def find(session: AsyncSession, user_id: str, task_id: int) -> Task:
    found = await session.exec(select(Task).where(Task.id == task_id, Task.user_id == user_id))
    task = found.first()
    if task is None:
        raise HTTPException(404, "Task not found")
    return task


async def save(session: AsyncSession, task: Task) -> Task:
    session.add(task)
    await session.flush()
    await session.refresh(task)
    return task


@app.get("/api/{user_id}/tasks", response_model=list[TaskPublic])
async def list_tasks(user_id: CurrentUser, session: SessionDep, limit: int = 100, offset: int = 0) -> list[Task]:
    page = select(Task).where(Task.user_id == user_id).order_by("id").limit(limit).offset(offset)
    return list((await session.exec(page)).all())


@app.post("/api/{user_id}/tasks", status_code=201, response_model=TaskPublic)
async def create_task(user_id: CurrentUser, body: TaskCreate, session: SessionDep) -> Task:
    now = datetime.now(UTC)
    task = Task(**body.model_dump(), user_id=user_id, completed=False, created_at=now, updated_at=now)
    return await save(session, task)


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def get_task(user_id: CurrentUser, task_id: int, session: SessionDep) -> Task:
    return await find(session, user_id, task_id)


@app.put("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def put_task(user_id: CurrentUser, task_id: int, body: TaskUpdate, session: SessionDep) -> Task:
    task = await find(session, user_id, task_id)
    task.sqlmodel_update(body.model_dump(exclude_unset=True))
    task.updated_at = datetime.now(UTC)
    return await save(session, task)


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=TaskPublic)
async def toggle_task(user_id: CurrentUser, task_id: int, session: SessionDep) -> Task:
    task = await find(session, user_id, task_id)
    task.completed = not task.completed
    task.updated_at = datetime.now(UTC)
    return await save(session, task)


@app.delete("/api/{user_id}/tasks/{task_id}", status_code=204)
async def delete_task(user_id: CurrentUser, task_id: int, session: SessionDep) -> None:
    await session.delete(await find(session, user_id, task_id))
