"""The service on an SQLite file: killed in the middle of writes, many writers at once, and a file
that is taken away under them.
"""
# [Task]: T095, T109 [From]: specs/reliability.md, specs/database/schema.md

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.faults.deployment import Deployment
from tests.faults.record import Record, Weather
from tests.faults.workload import writing

KILLS = 3
WRITERS = 8


def read_copy(database: Path, folder: Path) -> list[dict[str, Any]]:
    """Reads the tasks in a copy of the file: reading the file itself would repair what the service has to repair."""
    folder.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copy(path, folder)
    with closing(sqlite3.connect(folder / database.name)) as connection:
        connection.row_factory = sqlite3.Row
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        assert verdict == "ok"
        return [dict(row) for row in connection.execute("SELECT * FROM task")]


@pytest.mark.requirement("T095")
async def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    database, chance = tmp_path / "todo.db", Random(95)
    # The writes that a killed process had begun take no effect any more.
    record = Record(Weather(settle_seconds=0.5))
    async with Deployment(tmp_path, "--workers", "2", DATABASE_URL=f"sqlite:///{database}") as service:
        async with writing(record, service.url, chance, WRITERS):
            for number in range(KILLS):
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                async with record.weather.fault("kill -9 of the service"):
                    await service.kill()
                    # Until every answer that arrived was read.
                    await asyncio.sleep(0.2)
                    record.compare(read_copy(database, tmp_path / f"kill {number}"))
                    await service.start()
        await service.stop()
        record.read_log(service.output)
    record.compare(read_copy(database, tmp_path / "end"))
    record.check()
    assert record.count["503s"] == 0


@pytest.mark.requirement("T095")
async def test_writers_at_once_wait_for_each_other(tmp_path: Path) -> None:
    database = tmp_path / "todo.db"
    record = Record(Weather())
    async with Deployment(tmp_path, "--workers", "2", DATABASE_URL=f"sqlite:///{database}") as service:
        async with writing(record, service.url, Random(95), WRITERS, pause=0):
            await asyncio.sleep(4)
        await service.stop()
        record.read_log(service.output)
    record.compare(read_copy(database, tmp_path / "end"))
    record.check()
    assert record.failures == []


@pytest.mark.requirement("T095", "T109")
async def test_a_file_put_back_has_every_acknowledged_write(tmp_path: Path) -> None:
    database, chance = tmp_path / "todo.db", Random(109)
    record = Record(Weather(settle_seconds=0.5))
    async with Deployment(tmp_path, "--workers", "2", DATABASE_URL=f"sqlite:///{database}") as service:
        async with writing(record, service.url, chance, WRITERS):
            for parts in (("",), ("-wal",), ("", "-wal", "-shm")):
                await asyncio.sleep(chance.uniform(0.5, 1))
                async with record.weather.fault(f"{parts} moved away"):
                    for part in parts:
                        database.with_name(f"todo.db{part}").rename(tmp_path / f"away{part}")
                    await asyncio.sleep(0.5)
                    assert database.exists() == ("" not in parts)
                    for part in parts:
                        (tmp_path / f"away{part}").rename(database.with_name(f"todo.db{part}"))
            await asyncio.sleep(1)
        await service.stop()
        record.read_log(service.output)
    record.compare(read_copy(database, tmp_path / "end"))
    record.check()
    assert record.count["503s"] > 0
