"""The benchmark compares programs that give the same answers. Its measurements need a quiet machine, not a test."""
# [Task]: T083, T106, T146, T164 [From]: specs/performance.md

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from benchmarks import crowd, distance, growth, lists, peers, report, streams
from benchmarks.bench import Bench
from benchmarks.cost import check_agreement
from benchmarks.load import run_driver
from benchmarks.peers import PEERS, ROOT, run_peer
from benchmarks.rows import fill, tasks_of, user_id
from tests.databases import MakeDatabase
from tests.service import make_settings

RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.requirement("T083")
async def test_all_peers_answer_the_same(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = await make_database("postgresql")
    with ExitStack() as stack:
        peers = {name: stack.enter_context(run_peer(name, tmp_path, url)) for name in PEERS}
        await fill(url, rows=300, users=3)
        tasks = await tasks_of(url, [user_id(number) for number in range(3)])

        check_agreement(peers, tasks)


@pytest.fixture
def bench(postgres: str, tmp_path: Path) -> Iterator[Bench]:
    with start_blocking_portal() as portal, run_driver() as driver:
        yield Bench(postgres, tmp_path, portal, driver, rounds=1, rows=growth.SMALLEST)


@pytest.mark.requirement("T146")
def test_the_floor_answers_lists_and_bulk_writes_the_same(bench: Bench) -> None:
    with lists.serve_all(bench) as databases:
        lists.check_agreement(databases)


@pytest.mark.requirement("T146")
def test_conditions_and_bulk_writes_take_one_round_trip(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "PEERS", ["service"])
    monkeypatch.setattr(distance, "REQUESTS", 2)
    monkeypatch.setattr(distance, "SETTLE_SECONDS", 0.05)
    figures = distance.measure(bench)

    for name in distance.LISTS:
        assert figures[name]["service"]["round_trips"] == 1
    assert figures[distance.SINGLES]["service"]["round_trips"] == lists.BULK


@pytest.mark.requirement("T105", "T106")
def test_a_crowd_opens_no_more_sessions_than_the_pool(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "REQUESTS", 200)
    figures = crowd.measure(bench)

    settings = make_settings()
    opened = sum(sessions["service"] for sessions in figures["sessions"].values())
    assert settings.db_pool_size < opened <= settings.db_pool_size + settings.db_max_overflow
    assert crowd.tables(figures).count("\n") == len(crowd.CLIENTS) + 2


@pytest.mark.requirement("T164")
def test_each_open_stream_is_told_of_each_kind_of_change(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.POOL, "LIVE_INTERVAL", "0.5")
    small = {"REST_SECONDS": 0.1, "SETTLE_SECONDS": 0.15, "INTERVAL_SECONDS": 0, "REQUESTS": 20, "AT_ONCE": 2}
    for name, value in small.items():
        monkeypatch.setattr(streams, name, value)
    monkeypatch.setattr(streams, "CROWDS", {"few": (3, 2)})
    figures = streams.measure(bench)

    told = figures["told"]["few"]
    assert [case["streams"] for case in told.values()] == [2, 4, 2, 4, 6]
    assert all(seconds > 0 for case in told.values() for seconds in case["first"])
    assert streams.tables(figures).count("few") == 4 + len(told)


@pytest.mark.requirement("T083")
def test_the_results_are_shown_as_measured(tmp_path: Path) -> None:
    results = report.load(RESULTS)

    assert set(results) == {"cost", "lists", "streams", "distance", "load", "memory", "start", "growth", "partitions"}
    report.save(tmp_path, results)
    for name in ("results.json", "chart.svg"):
        assert (tmp_path / name).read_text() == (RESULTS / name).read_text()
    assert not re.search(r"/(tmp|home|root|work)/", json.dumps(results))
