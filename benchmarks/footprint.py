"""The memory that the service holds, and the time it takes to start."""
# [Task]: T083 [From]: specs/performance.md

import subprocess
import sys
import time
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.bench import CONNECTIONS, Bench, Figures, say
from benchmarks.operations import MEASURED, pick_requests
from benchmarks.peers import run_peer
from benchmarks.report import table
from benchmarks.rows import fill_for_users
from tests.server import exchange, head

# A thousand requests. Each has a token of its own, which is the most there is to remember.
MIX = {"get": 200, "list of 10": 200, "list of 100": 200, "create": 100, "put": 150, "toggle": 150}
MARKS = (0, 1_000, 10_000, 20_000, 40_000)

STARTS = 5
IMPORT = "import fastapi, sqlmodel"


def measure_memory(bench: Bench) -> Figures:
    chance = Random(83)  # noqa: S311 - the same requests in every run
    resident = {}
    with bench.database() as url, run_peer("service", bench.new_folder(), url) as peer:
        tasks = bench.portal.call(fill_for_users, url)
        for sent in range(0, MARKS[-1] + 1, sum(MIX.values())):
            if sent in MARKS:
                say(f"  after {sent:,} requests")
                resident[str(sent)] = peer.resident_bytes
            for name, times in MIX.items() if sent < MARKS[-1] else ():
                requests = pick_requests(MEASURED[name], tasks, times, chance, has_fresh_tokens=True)
                status = MEASURED[name].status
                bench.driver.drive(peer, requests, status=status, connections=CONNECTIONS)
    return {"resident_bytes": resident}


def memory_tables(figures: Figures) -> str:
    rows = [[f"{int(sent):,}", f"{resident / 2**20:.1f}"] for sent, resident in figures["resident_bytes"].items()]
    return table(["requests served", "resident memory, MiB"], rows)


def measure_start(bench: Bench) -> Figures:
    figures: Figures = {"new file": [], "file there": [], "import": []}
    for number in range(1, STARTS + 1):
        say(f"  start {number} of {STARTS}")
        folder = bench.new_folder()
        figures["new file"].append(start(folder))
        figures["file there"].append(start(folder))
        figures["import"].append(import_frameworks())
    return figures


def start(folder: Path) -> float:
    """Seconds from the process to its first answer, on the SQLite file of this folder."""
    started = time.perf_counter()
    with run_peer("service", folder, None) as peer:
        answer = exchange(peer.port, head("GET", "/health"))
        seconds = time.perf_counter() - started
    if not answer.is_success:
        raise RuntimeError(f"/health answered {answer.status_code}")
    return seconds


def import_frameworks() -> float:
    """The same for a Python that imports the two and ends: a measure of the machine."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORT], check=True)  # noqa: S603 - as written above
    return time.perf_counter() - started


def start_tables(figures: Figures) -> str:
    names = {
        "new file": "to the first answer, with a new file",
        "file there": "to the first answer, with the file there",
        "import": f"`python -c '{IMPORT}'`",
    }
    rows = [[text, f"{median(figures[name]):.2f}"] for name, text in names.items()]
    return table(["start", "median, s"], rows)
