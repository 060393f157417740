"""What every section measures with."""
# [Task]: T083 [From]: specs/performance.md

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal

from benchmarks.load import Driver
from tests.databases import postgres_database

# How many at a time, where a worker is to be busy.
CONNECTIONS = 16

# What a section has found, as it stands in results.json.
Figures = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is a program for the terminal


@dataclass(frozen=True)
class Bench:
    """The `portal` leads to the one event loop, which runs in a thread beside the sections: the
    proxy has to pass on what a peer sends while a section waits for that peer.
    """

    server_url: str
    folder: Path
    portal: BlockingPortal
    driver: Driver
    rounds: int
    rows: int
    # Where another version of the service is, to be measured beside this one.
    before: Path | None = None

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database. A peer of the service makes its schema when it starts."""
        making = postgres_database(self.server_url)
        with self.portal.wrap_async_context_manager(making) as url:
            yield url

    def new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))
