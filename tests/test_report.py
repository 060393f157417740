"""What a start says of its settings, and what it makes of variables that libraries read."""
# [Task]: T118, T119, T121 [From]: specs/api/rest-endpoints.md

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.report import report_settings
from tests.databases import MakeDatabase
from tests.leaks import PASSWORD, SECRET
from tests.server import INHERITED, ROOT, uvicorn_process
from tests.service import make_settings

REMOTE = f"postgresql://somebody:{PASSWORD}@db.example:5433/todo"


def report(caplog: pytest.LogCaptureFixture, **values: Any) -> tuple[str, list[str]]:
    """The line of what is in force, and the WARNINGs."""
    caplog.clear()
    report_settings(make_settings(**values))
    line, *warnings = caplog.records
    assert line.levelname == "INFO"
    assert {warning.levelname for warning in warnings} <= {"WARNING"}
    return line.getMessage(), [warning.getMessage() for warning in warnings]


@pytest.mark.requirement("T119")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"database_url": REMOTE}, "the database is todo at db.example:5433 (asyncpg); "),
        (
            {"database_url": f"postgresql://u:{PASSWORD}@h1,[::1]:5433/x"},
            "the database is x at h1:5432, [::1]:5433 (asyncpg); ",
        ),
        ({"database_url": f"postgresql://u:{PASSWORD}@h1"}, "the database is named as its user at h1:5432 (asyncpg); "),
        ({"database_url": "sqlite:///./other.db"}, "the database is the file ./other.db (aiosqlite); "),
        ({"jwt_algorithm": "HS512"}, "; tokens are verified by the secret of BETTER_AUTH_SECRET (HS512); "),
        (
            {"better_auth_secret": None, "better_auth_url": "https://app.example/api/auth"},
            "; tokens are verified by the keys published at https://app.example/api/auth/jwks; ",
        ),
        (
            {"better_auth_url": "https://a.example", "jwks_url": "https://b.example/k"},
            " BETTER_AUTH_SECRET (HS256) and the keys published at https://b.example/k; ",
        ),
        ({"better_auth_secret": None}, "; tokens are verified by the development secret (HS256); "),
        (
            {"allowed_origins": ["https://a.example", "https://*.b.example"]},
            "; browsers may call from https://a.example, https://*.b.example; /docs ",
        ),
        ({"allowed_origins": []}, "; browsers may call from nowhere; /docs "),
        (
            {"rate_limit": "60/minute", "require_https": True},
            "; a user may make 60/minute requests; plain HTTP is refused; /",
        ),
        ({"database_url": REMOTE, "user_table": "auth.user"}, "; tasks go with their user in auth.user; /docs "),
    ],
)
def test_a_start_logs_what_is_in_force(caplog: pytest.LogCaptureFixture, values: dict[str, Any], said: str) -> None:
    line, _ = report(caplog, **values)

    assert said in line
    assert "somebody" not in line


@pytest.mark.requirement("T118")
def test_an_sqlite_file_by_default_is_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    for key in ({}, {"better_auth_secret": None, "better_auth_url": "https://app.example"}):
        _, warnings = report(caplog, **key)
        (warning,) = warnings
        assert "DATABASE_URL" in warning
        assert str(tmp_path / "todo.db") in warning
    # Named, or for development.
    assert report(caplog, database_url="sqlite:///./todo.db")[1] == []
    assert report(caplog, better_auth_secret=None)[1] == []


@pytest.mark.requirement("T118")
@pytest.mark.parametrize("wrap", ["'{}'", '"{}"', " {}", "{}\n", "\t{}", "{}\r\n", "`{}`", "“{}”", "\u00a0{}", "'{}"])
def test_a_secret_in_quotes_or_blanks_is_a_warning(caplog: pytest.LogCaptureFixture, wrap: str) -> None:
    _, warnings = report(caplog, database_url="sqlite:///./todo.db", better_auth_secret=wrap.format(SECRET))

    assert [warning.split()[:4] for warning in warnings] == [["BETTER_AUTH_SECRET", "has", "quotes", "or"]]


@pytest.mark.requirement("T118")
async def test_a_secret_keeps_its_quotes(tmp_path: Path) -> None:
    """As `docker run --env-file` hands it over."""
    environment = {"BETTER_AUTH_SECRET": f'"{SECRET}"', "DATABSE_URL": "x", "LOG_LEVEL": "WARNING"}
    async with uvicorn_process(tmp_path, **environment) as server:
        await server.wait_for("todo.db")
        await server.wait_for("BETTER_AUTH_SECRET has quotes")


@pytest.mark.requirement("T118")
async def test_a_migration_by_hand_warns_of_the_file_too(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "-c", str(ROOT / "pyproject.toml"), "upgrade", "head"),
        cwd=tmp_path,
        env=INHERITED | {"PYTHONPATH": str(ROOT), "BETTER_AUTH_SECRET": SECRET},
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await process.communicate()

    assert process.returncode == 0, output
    assert f"the SQLite file {tmp_path / 'todo.db'}" in output.decode()


@pytest.mark.requirement("T119")
async def test_a_failed_start_logs_its_settings_once(tmp_path: Path, make_database: MakeDatabase) -> None:
    url = (await make_database("postgresql")).replace("todo_test", "no_such")
    async with uvicorn_process(tmp_path, DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET) as server:
        await server.end()

    assert server.output.count(" - runtime.report - INFO - In force: ") == 1


@pytest.mark.requirement("T121")
@pytest.mark.parametrize(
    "variables",
    [
        {"SSLKEYLOGFILE": "/nowhere/keys.log"},
        {"SSL_CERT_FILE": "/nowhere/ca.pem", "SSL_CERT_DIR": "/nowhere"},
        {"HOME": "/nowhere"},
        {"HOME": "/dev/null"},
        {"HOME": ""},
    ],
)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_a_start_survives_variables_of_libraries(
    tmp_path: Path, make_database: MakeDatabase, variables: dict[str, str], backend: str
) -> None:
    environment = {"DATABASE_URL": await make_database(backend), "BETTER_AUTH_SECRET": SECRET}
    async with uvicorn_process(tmp_path, **environment, **variables) as server:
        await server.url()

    assert "Traceback" not in server.output
