"""People with browsers of their own, in Debian's Chromium, and what they do and see."""
# [Task]: T170, T171 [From]: specs/features/frontend.md

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from tests.leaks import watch

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
PASSWORD = "correct horse battery"
# Longer than any wait: the slowest machine still does it.
BOUND_SECONDS = 90

Seen = TypeVar("Seen")


async def comes(read: Callable[[], Awaitable[Seen]], expected: Callable[[Seen], bool]) -> Seen:
    """Returns what is read as soon as it is as expected, and fails with the last if it never is."""
    seen = await read()
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while not expected(seen):
                await asyncio.sleep(0.05)
                seen = await read()
    except TimeoutError:
        raise AssertionError(f"it stays as it is:\n{seen}") from None
    return seen


class Tab:
    """A tab of a browser. It is used by the roles and names of what is in it."""

    def __init__(self, browser: "Browser", page: int, origin: str) -> None:
        self._browser = browser
        self._page = page
        self._origin = origin

    async def do(self, verb: str, *values: Any) -> Any:
        return await self._browser.do(verb, *values, target=self._page)

    async def goto(self, path: str) -> None:
        await self.do("goto", path if "://" in path else self._origin + path)

    async def reload(self) -> None:
        await self.do("reload")

    async def click(self, name: str, role: str = "button") -> None:
        await self.do("click", role, name)

    async def fill(self, name: str, text: str, role: str = "textbox") -> None:
        await self.do("fill", role, name, text)

    async def select(self, name: str, option: str) -> None:
        await self.do("select", name, option)

    async def press(self, key: str) -> None:
        await self.do("press", key)

    async def value(self, name: str) -> str:
        value: str = await self.do("value", "textbox", name)
        return value

    # --- what it does with tasks

    async def add(self, title: str) -> None:
        await self.fill("New task", title)
        await self.click("Add")

    async def tick(self, title: str) -> None:
        await self.click(title, "checkbox")

    async def edit(self, title: str, new_title: str) -> None:
        """Begins to edit, and doesn't save."""
        await self.click(f"Edit “{title}”")
        await self.fill("Title", new_title)

    async def delete(self, title: str) -> None:
        await self.click(f"Delete “{title}”")

    # --- what is to be seen

    async def seen(self) -> str:
        text: str = await self.do("see")
        return text

    async def tasks(self) -> dict[str, bool]:
        """The tasks in the list, in its order, and whether they are ticked."""
        return dict(await self.do("tasks"))

    async def alerts(self) -> list[str]:
        texts: list[str] = await self.do("alerts")
        return [text for text in texts if text]

    async def told(self) -> list[str]:
        """The text of each alert that there has been since the page was loaded, however short."""
        texts: list[str] = await self.do("told")
        return texts

    async def shows(self, *parts: str) -> str:
        """Waits until all these are to be seen."""
        return await comes(self.seen, lambda seen: all(part in seen for part in parts))

    async def lists(self, *titles: str) -> None:
        """Waits until these are the titles in the list."""
        await comes(self.tasks, lambda tasks: tuple(tasks) == titles)

    async def ticks(self, **tasks: bool) -> None:
        """Waits until these are the tasks in the list, ticked or not."""
        await comes(self.tasks, lambda seen: seen == tasks)

    async def alarms(self, part: str) -> None:
        """Waits for an alert with this in it."""
        await comes(self.alerts, lambda alerts: any(part in alert for alert in alerts))

    async def is_quiet(self) -> None:
        """Waits until there is no alert."""
        await comes(self.alerts, lambda alerts: not alerts)

    async def has_heading(self, name: str) -> None:
        await self.do("waitFor", "heading", name)

    async def has_focus(self, name: str) -> None:
        """Waits until what has this name, or text, has the focus."""

        async def focused() -> str:
            return str(await self.do("focused"))

        await comes(focused, lambda focused: focused == name)

    async def faults(self) -> list[str]:
        """What axe finds serious or critical."""
        found: list[str] = await self.do("faults")
        return found


@dataclass
class Person:
    """Somebody with a browser of their own, and perhaps an account."""

    browser: "Browser"
    context: int
    origin: str
    email: str
    id: str = ""

    async def open(self, path: str = "/tasks") -> Tab:
        page = await self.browser.do("newPage", target=self.context)
        tab = Tab(self.browser, page, self.origin)
        await tab.goto(path)
        return tab

    async def _post(self, path: str, **data: str) -> str:
        values = ("POST", f"{self.origin}/api/auth/{path}", {"email": self.email, "password": PASSWORD} | data)
        answer = await self.browser.do("request", *values, target=self.context)
        return str(answer["user"]["id"])

    async def sign_up(self) -> None:
        self.id = await self._post("sign-up/email", name="Ada")

    async def sign_in(self) -> None:
        self.id = await self._post("sign-in/email")

    async def token(self) -> str:
        answer = await self.browser.do("request", "GET", f"{self.origin}/api/auth/token", target=self.context)
        return watch.issue(answer["token"])

    async def leave(self) -> None:
        """Closes the browser, with its tabs."""
        await self.browser.do("close", target=self.context)


class Browser:
    """The driver: a program that does what a test tells it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._people: list[Person] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            # A test that has failed waits no longer.
            if waiting.done():
                continue
            if "error" in answer:
                waiting.set_exception(AssertionError(answer["error"]))
            else:
                waiting.set_result(answer["result"])
        for waiting in self._waiting.values():
            waiting.set_exception(AssertionError("the browser has ended"))

    async def do(self, verb: str, *values: Any, target: int = 0) -> Any:
        assert self._process.stdin is not None
        assert not self.reading.done(), "the browser has ended"
        number = next(self._ids)
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "verb": verb, "target": target, "values": values})
        self._process.stdin.write(f"{line}\n".encode())
        return await answer

    async def meet(self, origin: str, email: str = "", **options: Any) -> Person:
        """Somebody new, whose browser has these options of Playwright."""
        context = await self.do("newContext", options)
        person = Person(self, context, origin, email or f"{uuid4().hex}@example.com")
        self._people.append(person)
        return person

    async def take_failures(self) -> list[str]:
        """Which requests of tabs failed or were refused since the last time: their status or error, method and path."""
        failures: list[str] = await self.do("takeFailures")
        return failures

    async def clear(self) -> None:
        """Closes what is open, and fails if a page has complained, or a request failed that no test has taken."""
        while self._people:
            await self._people.pop().leave()
        complaints, failures = await self.do("takeComplaints"), await self.take_failures()
        assert (complaints, failures) == ([], [])


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(Path(__file__).parent / "driver.mjs"), str(CHROMIUM)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**24,
    )
    browser = Browser(process)
    try:
        yield browser
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await browser.reading
        await process.wait()
