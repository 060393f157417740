"""The record of acknowledged writes, of reads and of faults, and its verdict on the rule: every
acknowledged write is there with its last acknowledged value, and a bulk write is wholly there or wholly absent.
"""
# [Task]: T093, T094, T095, T135, T137, T140, T143, T163 [From]: specs/reliability.md, specs/features/task-crud.md

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.watching import Owed, Wait, Watcher, summary, waits

# Everything works again within this time after a fault's end.
RECOVERY_SECONDS = 5.0
# The service's REQUEST_TIMEOUT in these tests, which is below the patience of its clients.
REQUEST_TIMEOUT_SECONDS = 4.0
# After a calm of this length, all that a fault held up has ended.
SETTLE_SECONDS = REQUEST_TIMEOUT_SECONDS + 1
CALM_SECONDS = SETTLE_SECONDS + 0.6

# A stream should be told of a change within this time: the default LIVE_INTERVAL, and a second.
LATE_SECONDS = 3.0

# Each entry of the service's log begins with its time.
LOG_ENTRY = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)
BAD_LOG = re.compile("Traceback|prepared statement|database is locked|deadlock")


class Spell(NamedTuple):
    """A time without faults."""

    begin: float
    end: float


class Fault(NamedTuple):
    kind: str
    begin: float
    # None as long as it lasts.
    end: float = math.inf

    def __str__(self) -> str:
        return f"{self.begin:8.3f} fault: {self.kind}, until {self.end:.3f}"


class Weather:
    """The times of faults and of calms, in seconds since the start."""

    def __init__(self, settle_seconds: float = SETTLE_SECONDS) -> None:
        self._settle_seconds = settle_seconds
        self._start = time.monotonic()
        # Before the first fault, nothing has to recover.
        self._calm_since: float | None = -RECOVERY_SECONDS
        self._past_calms: list[Spell] = []
        self._faults: list[Fault] = []

    def now(self) -> float:
        return time.monotonic() - self._start

    @property
    def calms(self) -> list[Spell]:
        current = [] if self._calm_since is None else [Spell(self._calm_since, self.now())]
        return self._past_calms + current

    @asynccontextmanager
    async def fault(self, kind: str) -> AsyncIterator[None]:
        begin = self.now()
        assert self._calm_since is not None
        self._past_calms.append(Spell(self._calm_since, begin))
        self._calm_since = None
        self._faults.append(Fault(kind, begin))
        yield
        self._calm_since = self.now()
        self._faults[-1] = Fault(kind, begin, self._calm_since)

    @staticmethod
    async def stay_calm() -> None:
        await asyncio.sleep(CALM_SECONDS)

    def is_settled(self, since: float) -> bool:
        """Whether a write that was unknown at that time can't take effect any more: since then a calm was
        long enough for a stopped process, a silent network or a locked row to go on.
        """
        return any(calm.end - max(calm.begin, since) >= self._settle_seconds for calm in self.calms)

    def recovery(self, begin: float, end: float) -> float | None:
        """Returns how long after a fault's end a request began, if it ended before the next fault."""
        for calm in self.calms:
            if calm.begin <= begin and end <= calm.end:
                return begin - calm.begin
        return None

    def wait(self, end: float, begin: float) -> float:
        """Returns how long something took, faults aside: the longest calm between these moments."""
        return max((min(calm.end, end) - max(calm.begin, begin) for calm in self.calms), default=0)

    def kind_before(self, moment: float) -> str:
        """Returns the kind of the last fault that had begun by then."""
        kinds = [fault.kind for fault in self._faults if fault.begin <= moment]
        return kinds[-1] if kinds else "nothing"

    def around(self, moments: Iterable[float]) -> list[str]:
        """Returns the faults from shortly before the first of these moments to shortly after the last."""
        first, last = min(moments, default=0.0) - 10, max(moments, default=0.0) + 10
        return [str(fault) for fault in self._faults if first <= fault.begin <= last]


class Value(NamedTuple):
    """The content of a task: the number in both its title and its description, and whether it is completed."""

    number: int
    completed: bool


class Absent:
    """The state of a task that doesn't exist."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()
State = Value | Absent


class Event(NamedTuple):
    moment: float
    what: str


class Failure(NamedTuple):
    """A request that got a 5xx or no whole answer."""

    begin: float
    end: float
    what: str


@dataclass(eq=False)
class Known:
    """A task whose POST was acknowledged."""

    id: int
    owner: str
    marker: str
    # The last acknowledged state.
    state: State
    # The POST that made it, if it had a key.
    sent: "Sent | None" = None
    # The states after writes of unknown outcome, and the time since which it is unknown.
    perhaps: tuple[State, ...] = ()
    unknown_since: float | None = None
    # Its entity tags, the present one last.
    tags: list[str] = field(default_factory=list)
    # Whether the last acknowledged state was read since.
    is_checked: bool = True
    events: list[Event] = field(default_factory=list)

    @property
    def is_there(self) -> bool:
        """Whether it certainly exists, in a state that is known."""
        return not self.perhaps and isinstance(self.state, Value)

    def allows(self, seen: State) -> bool:
        return seen == self.state or seen in self.perhaps

    def settle(self, state: State) -> None:
        self.state, self.perhaps, self.unknown_since = state, (), None


@dataclass(eq=False)
class Sent:
    """A POST with a key, of one task or a list."""

    key: str
    path: str
    body: dict[str, Any]
    tasks: list[Known]
    # The last time that an attempt was unknown: it could come late and, were a task gone by then, make another.
    unknown_since: float | None = None


# The state before and after a bulk write of unknown outcome, by the markers of its tasks.
Bulk = Mapping[str, tuple[State, State]]


class Torn(Exception):
    """A row that was written in part."""


def title_of(marker: str, number: int) -> str:
    return f"{marker} {number}"


def read_row(row: Mapping[str, Any]) -> tuple[str, Value]:
    """Returns the marker of a row, which names its writer, and its content."""
    title, description = row["title"], row["description"]
    if title != description:
        raise Torn(f"title {title!r}, description {description!r}")
    marker, _, number = title.rpartition(" ")
    return marker, Value(int(number), bool(row["completed"]))


def states_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, State]:
    """Returns the state of each row by its marker, of those that are whole."""
    states: dict[str, State] = {}
    for row in rows:
        with suppress(Torn):
            marker, value = read_row(row)
            states[marker] = value
    return states


class Record:
    """All that the writers know, and all breaches of the rule that they found."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.known: dict[int, Known] = {}
        # Markers of the POSTs that may or may not have created a task.
        self.perhaps: set[str] = set()
        self.bulks: list[Bulk] = []
        self.owners: set[str] = set()
        # What the streams of each user have to be told, the newest last.
        self.owed: dict[str, list[Owed]] = {}
        self.count: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.wrong: list[str] = []
        self.waits: list[Wait] = []

    def accuse(self, kind: str, message: str, task: Known | None = None) -> None:
        """Counts a breach of the rule, and notes the events around it."""
        self.count[kind] += 1
        events = [] if task is None else task.events[-12:]
        now = self.weather.now()
        lines = [f"at {now:.3f} {kind}: {message}"]
        if task is not None:
            lines.append(f"task {task.id} of {task.owner}, marker {task.marker!r}")
            lines.append(f"acknowledged: {task.state}; perhaps: {task.perhaps}")
        lines += [f"{event.moment:8.3f} {event.what}" for event in events]
        lines += self.weather.around([event.moment for event in events] or [now])
        self.wrong.append("\n  ".join(lines))

    def owe(self, user_id: str, version: int, moment: float) -> None:
        """Notes that an answer at this moment has shown a version of the user's list, or a part of it."""
        owed = self.owed.setdefault(user_id, [])
        if not owed or version > owed[-1].version:
            owed.append(Owed(user_id, version, moment))

    def check_bulks(self, seen: Mapping[str, State], owner: str = "") -> None:
        """Checks that each bulk write, of this owner or of all, was wholly done, or not at all, in what was read at one
        moment.
        """
        for bulk in self.bulks:
            changes = {marker: change for marker, change in bulk.items() if change[0] != change[1]}
            is_done = {seen.get(marker, ABSENT) == after for marker, (_, after) in changes.items()}
            if len(is_done) > 1 and next(iter(changes)).startswith(owner):
                found = {marker: seen.get(marker, ABSENT) for marker in changes}
                self.accuse("half written", f"of {changes} there is {found}")

    def see(self, task: Known, seen: State, where: str) -> None:
        """Compares what was read of a task with what was acknowledged."""
        if not task.allows(seen):
            self.accuse("lost", f"{where} has {seen}", task)
        elif not task.is_checked:
            task.is_checked = True
            self.count["checked"] += 1

    def compare(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Compares the database, now that nothing is unknown, with what should be in it."""
        found: dict[int, State] = {}
        keys: Counter[tuple[str, str]] = Counter()
        markers: dict[str, list[int]] = {}
        by_marker = {task.marker: task for task in self.known.values()}
        for row in rows:
            try:
                marker, value = read_row(row)
            except Torn as torn:
                self.accuse("half written", f"row {row['id']}: {torn}", self.known.get(row["id"]))
                continue
            markers.setdefault(marker, []).append(row["id"])
            found[row["id"]] = value
            owner = row["user_id"]
            keys[owner, row["idempotency_key"] or f"none: {row['id']}"] += 1
            if owner not in self.owners or not marker.startswith(f"{owner}/"):
                self.accuse("foreign", f"row {row['id']} of {owner} is {marker!r}")
            elif row["id"] not in self.known and marker not in self.perhaps | set(by_marker):
                self.accuse("foreign", f"row {row['id']} is of {marker!r}, which nobody wrote")
        for marker, ids in markers.items():
            if len(ids) > 1 or (marker in by_marker and ids != [by_marker[marker].id]):
                self.accuse("doubled", f"rows {ids} are of {marker!r}, one POST", by_marker.get(marker))
        for (owner, key), rows_of_key in keys.items():
            if rows_of_key > 1:
                self.accuse("doubled", f"{rows_of_key} rows of {owner} have the key {key!r}")
        self.check_bulks({marker: found[ids[0]] for marker, ids in markers.items()})
        for task in self.known.values():
            self.count["compared"] += 1
            self.see(task, found.get(task.id, ABSENT), "the database")

    def judge(self, watchers: list[Watcher], versions: Mapping[str, int]) -> None:
        """Judges what streams were told, of lists that have these versions now, and when they ended: when their token
        did, or with their worker.
        """
        self.waits = waits([one for owed in self.owed.values() for one in owed], watchers, self.weather.wait)
        for wait in self.waits:
            if wait.seconds is None:
                self.accuse("missed", f"{wait.owed} was never told, only {wait.watcher.told[-5:]}")
        for watcher in watchers:
            if watcher.version != versions[watcher.user_id]:
                self.accuse("missed", f"{versions[watcher.user_id]} was never told, only {watcher.told[-5:]}")
            for wrong in watcher.wrong:
                self.accuse("stream", wrong)
            for end in watcher.ends:
                kind = self.weather.kind_before(end.moment)
                is_expected = kind == "kill_worker" if end.error else end.is_due or kind == "restart_service"
                if not is_expected:
                    self.accuse("stream", f"{end} after {kind}")
        self.count["streams"] = sum(len(watcher.ends) + 1 for watcher in watchers)

    def read_log(self, output: str) -> None:
        """Looks in the service's log for unforeseen errors, and for those of a pooler."""
        for entry in LOG_ENTRY.split(output):
            if BAD_LOG.search(entry):
                lines = entry.splitlines()
                # A traceback's end tells the most.
                self.accuse("logged", "\n  ".join([*lines[:1], *lines[1:][-15:]]))

    @property
    def recoveries(self) -> list[tuple[float, Failure]]:
        """Returns each failure in a calm, and how long after a fault's end it began."""
        found = [(self.weather.recovery(one.begin, one.end), one) for one in self.failures]
        return [(seconds, one) for seconds, one in found if seconds is not None]

    def describe_recovery(self) -> str:
        if not self.recoveries:
            return "longest recovery: none was needed"
        seconds, failure = max(self.recoveries)
        return f"longest recovery: {seconds:.1f} s, after {self.weather.kind_before(failure.begin)}"

    def figures(self) -> list[str]:
        count = self.count
        return [
            "faults: " + ", ".join(f"{kind} {times}" for kind, times in self.faults.items()),
            # The others were overwritten before they were read.
            f"acknowledged changes of tasks: {count['acknowledged']}, checked: {count['checked']}",
            f"acknowledged writes of several tasks: {count['bulk']}",
            f"tasks compared with the database: {count['compared']}",
            f"writes of unknown outcome: {count['unknown']}",
            f"POSTs answered by their key: {count['replayed']}",
            f"writes refused by their tag: {count['refused']}, lists known by theirs: {count['unchanged']}",
            *(f"{kind}: {count[kind]}" for kind in ("lost", "doubled", "half written", "foreign", "stale")),
            *(f"{kind}: {count[kind]}" for kind in ("500s", "503s", "unanswered")),
            self.describe_recovery(),
            f"streams: {count['streams']}; {summary(self.waits, LATE_SECONDS)}",
        ]

    def check(self) -> None:
        """Fails if the rule was broken, and says how."""
        for seconds, failure in self.recoveries:
            if seconds >= RECOVERY_SECONDS:
                self.accuse("slow", f"{seconds:.1f} s after a fault's end: {failure.what}")
        report = "\n\n".join(self.wrong[:20])
        assert not self.wrong, f"{len(self.wrong)} times the rule was broken:\n\n{report}"
