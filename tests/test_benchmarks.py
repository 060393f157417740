# [Task]: T083 [From]: specs/performance.md
"""The benchmark compares like with like. What it measures is for a quiet machine, not for tests."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cost import check_agreement
from benchmarks.peers import PEERS, ROOT, run_peer
from benchmarks.rows import fill, tasks_of, user_id
from tests.databases import MakeDatabase

RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.requirement("T083")
async def test_all_peers_answer_the_same(make_database: MakeDatabase, tmp_path: Path) -> None:
    url = await make_database("postgresql")
    with ExitStack() as stack:
        peers = {name: stack.enter_context(run_peer(name, tmp_path, url)) for name in PEERS}
        await fill(url, rows=300, users=3)
        tasks = await tasks_of(url, [user_id(number) for number in range(3)])

        check_agreement(peers, tasks)


@pytest.mark.requirement("T083")
def test_the_results_are_shown_as_they_were_measured(tmp_path: Path) -> None:
    results = report.load(RESULTS)

    assert set(results) == {"cost", "distance", "memory", "start", "growth"}
    report.save(tmp_path, results)
    for name in ("results.json", "chart.svg"):
        assert (tmp_path / name).read_text() == (RESULTS / name).read_text()
    assert not re.search(r"/(tmp|home|root|work)/", json.dumps(results))
