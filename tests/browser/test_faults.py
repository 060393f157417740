"""The app when things go wrong: nothing is done twice, undone or lost, and no alert is false."""
# [Task]: T171 [From]: specs/features/frontend.md

import asyncio
import re
import time
from uuid import uuid4

import pytest

from tests.browser.browser import BOUND_SECONDS, Browser, Person, Tab, comes
from tests.browser.stack import Stack
from tests.service import make_token

UNREACHABLE = "be reached at the moment"

# Chromium itself sends a request again, once, if the connection had been used before; the rest is up to the client.
LOST = pytest.mark.parametrize("times", [1, 3])


# --- an answer is lost after the commit


async def lose(stack: Stack, tab: Tab, method: str, times: int) -> None:
    """Loses the next answers to such requests, the first of which goes by a connection that has been used before."""
    # Browsers don't share their connections, so that those of this one need a name.
    path = f"/health?{uuid4()}-"
    async with asyncio.timeout(BOUND_SECONDS):
        while stack.proxy.count_spares(path) < 3:
            await tab.do("connect", stack.api + path)
    stack.proxy.lose(method, times)


async def check_lost(stack: Stack, times: int) -> None:
    """Waits for the answer, and checks that so many were lost before it, the first on a used connection."""
    was_used = await stack.proxy.recovers()
    assert was_used[0]
    assert len(was_used) == times + 1


@LOST
@pytest.mark.requirement("T171")
async def test_a_lost_answer_makes_no_second_task(by_keys: Stack, browser: Browser, ada: Person, times: int) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.lists("Milk")

    await lose(by_keys, tab, "POST", times)
    await tab.add("Bread")
    await check_lost(by_keys, times)

    await tab.lists("Bread", "Milk")
    assert await by_keys.rows(ada.id) == [("Milk", False), ("Bread", False)]
    assert await tab.told() == []
    await take_lost(browser, times)


@LOST
@pytest.mark.requirement("T171")
async def test_a_lost_answer_ticks_as_it_was_meant(by_keys: Stack, browser: Browser, ada: Person, times: int) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.lists("Milk")

    for is_done in (True, False):
        await lose(by_keys, tab, "PATCH", times)
        await tab.tick("Milk")
        await check_lost(by_keys, times)

        await tab.ticks(Milk=is_done)
        assert await by_keys.rows(ada.id) == [("Milk", is_done)]
        assert await tab.told() == []
    await take_lost(browser, 2 * times)


@LOST
@pytest.mark.requirement("T171")
async def test_a_lost_answer_to_an_edit_is_no_conflict(
    by_keys: Stack, browser: Browser, ada: Person, times: int
) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.lists("Milk")

    await lose(by_keys, tab, "PATCH", times)
    await tab.edit("Milk", "Oat milk")
    await tab.click("Save")
    await check_lost(by_keys, times)

    await tab.has_focus("Edit “Oat milk”")
    assert await by_keys.rows(ada.id) == [("Oat milk", False)]
    assert await tab.told() == []
    failures = await browser.take_failures()
    assert sum(failure.startswith("412 ") for failure in failures) == 1


@LOST
@pytest.mark.requirement("T171")
async def test_a_lost_answer_deletes_and_says_no_error(
    by_keys: Stack, browser: Browser, ada: Person, times: int
) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.lists("Milk")

    await lose(by_keys, tab, "DELETE", times)
    await tab.delete("Milk")
    await check_lost(by_keys, times)

    await tab.shows("Deleted “Milk”.")
    await tab.lists()
    assert await by_keys.rows(ada.id) == []
    assert await tab.told() == []
    # It comes back once, however often the answer to that is lost.
    await lose(by_keys, tab, "POST", times)
    await tab.click("Undo")
    await check_lost(by_keys, times)
    await tab.lists("Milk")
    assert await by_keys.rows(ada.id) == [("Milk", False)]
    assert await tab.told() == []
    await browser.take_failures()


async def take_lost(browser: Browser, most: int) -> None:
    """Takes the failures of requests whose answer was lost."""
    failures = await browser.take_failures()
    assert len(failures) <= most
    assert all(failure.startswith("net::ERR_") for failure in failures)


# --- the service is down


@pytest.mark.requirement("T171")
async def test_what_is_done_while_the_service_is_away_is_done(by_keys: Stack, browser: Browser, ada: Person) -> None:
    tab, other = await ada.open(), await ada.open()
    await tab.add("Milk")
    await asyncio.gather(tab.lists("Milk"), other.lists("Milk"))

    with by_keys.proxy.away():
        await tab.tick("Milk")
        await tab.add("Bread")
        await comes(browser.take_failures, lambda failures: {"POST", "PATCH"} <= {line.split()[1] for line in failures})

    await asyncio.gather(*(one.ticks(Bread=False, Milk=True) for one in (tab, other)))
    assert await by_keys.rows(ada.id) == [("Milk", True), ("Bread", False)]
    # The changes are live again.
    await other.add("Cheese")
    await tab.lists("Cheese", "Bread", "Milk")
    await asyncio.gather(tab.is_quiet(), other.is_quiet())
    await browser.take_failures()


@pytest.mark.requirement("T171")
async def test_a_service_that_is_down_for_longer_is_told_and_loses_nothing(
    by_keys: Stack, browser: Browser, ada: Person
) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.lists("Milk")

    async with by_keys.down():
        await tab.add("Bread")
        other = await ada.open()
        for one in (tab, other):
            await one.alarms(UNREACHABLE)
        await comes(lambda: tab.value("New task"), lambda text: text == "Bread")
        # What was there is still to be seen.
        await tab.lists("Milk")

    await other.lists("Milk")
    await tab.click("Add")
    for one in (tab, other):
        await one.lists("Bread", "Milk")
        await one.is_quiet()
    assert await by_keys.rows(ada.id) == [("Milk", False), ("Bread", False)]
    await browser.take_failures()


# --- a token expires


async def open_with_token(person: Person, *, seconds: int) -> Tab:
    """A tab whose next page gets a token that the service accepts for so long. By its own reckoning it is good for a
    quarter of an hour. (The service allows clocks to differ by ten seconds.)
    """
    tab = await person.open("/api/auth/ok")
    expires = int(time.time()) + seconds - 10
    await tab.do("giveToken", make_token(person.id, iat=expires - 900, exp=expires))
    return tab


@pytest.mark.requirement("T171")
async def test_a_token_that_expires_goes_unnoticed(by_secret: Stack, browser: Browser) -> None:
    ada = await browser.meet(by_secret.origin)
    await ada.sign_up()
    other = await ada.open()
    tab = await open_with_token(ada, seconds=3)
    await tab.goto("/tasks")

    # Its stream ends with the token, and the next attempt is refused once.
    failures = await comes(browser.take_failures, lambda failures: any("/events" in failure for failure in failures))
    assert all(failure.startswith("401 ") for failure in failures)
    await other.add("Milk")
    await tab.lists("Milk")

    assert await tab.told() == []


@pytest.mark.requirement("T171")
async def test_a_write_with_an_expired_token_is_done_once(by_secret: Stack, browser: Browser) -> None:
    ada = await browser.meet(by_secret.origin)
    await ada.sign_up()
    tab = await open_with_token(ada, seconds=-60)
    # Nothing else asks for another token before.
    await tab.do("block", "**/events")
    await tab.goto("/tasks")
    await tab.add("Milk")

    await tab.lists("Milk")
    assert await by_secret.rows(ada.id) == [("Milk", False)]
    assert await tab.told() == []
    await tab.goto("/api/auth/ok")  # where nothing is asked for any more
    assert f"401 POST /api/{ada.id}/tasks" in await browser.take_failures()


# --- two tabs change the same task


@pytest.mark.requirement("T171")
async def test_a_conflict_shows_both_sides(by_keys: Stack, browser: Browser, ada: Person) -> None:
    one, two = await ada.open(), await ada.open()
    await one.add("Milk")
    await two.lists("Milk")

    await one.edit("Milk", "Soy milk")
    await two.edit("Milk", "Oat milk")
    await two.click("Save")
    await two.lists("Oat milk")
    await one.click("Save")

    await one.alarms("Oat milk")
    assert await one.value("Title") == "Soy milk"
    assert await by_keys.rows(ada.id) == [("Oat milk", False)]
    failures = await browser.take_failures()
    assert [re.sub(r"\d+$", "ID", failure) for failure in failures] == [f"412 PATCH /api/{ada.id}/tasks/ID"]
    # Now it is on purpose.
    await one.click("Save")
    await asyncio.gather(one.lists("Soy milk"), two.lists("Soy milk"))
    assert await by_keys.rows(ada.id) == [("Soy milk", False)]
    await one.is_quiet()


@pytest.mark.requirement("T171")
async def test_a_task_deleted_elsewhere_is_told(by_keys: Stack, browser: Browser, ada: Person) -> None:
    one, two = await ada.open(), await ada.open()
    await one.add("Milk")
    await two.lists("Milk")

    await one.edit("Milk", "Soy milk")
    await two.delete("Milk")
    await two.lists()
    await one.click("Save")
    await one.alarms("no longer there")
    await one.lists()

    assert await by_keys.rows(ada.id) == []
    failures = await browser.take_failures()
    assert failures
    assert all(failure.startswith("404 ") for failure in failures)


@pytest.mark.requirement("T171")
async def test_quick_changes_never_conflict_with_ones_own(by_keys: Stack, ada: Person) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.lists("Milk")

    for _ in range(3):
        await tab.tick("Milk")
    await tab.edit("Milk", "Oat milk")
    await tab.click("Save")
    await tab.tick("Oat milk")
    await tab.tick("Oat milk")

    await tab.ticks(**{"Oat milk": True})

    async def rows() -> list[tuple[str, bool]]:
        return await by_keys.rows(ada.id)

    await comes(rows, lambda rows: rows == [("Oat milk", True)])
    assert await tab.told() == []


@pytest.mark.requirement("T171")
async def test_tasks_added_quickly_are_all_there(by_keys: Stack, ada: Person) -> None:
    tab = await ada.open()
    titles = [f"Task {number}" for number in range(8)]
    for title in titles:
        await tab.fill("New task", title)
        await tab.press("Enter")

    await comes(tab.tasks, lambda tasks: set(tasks) == set(titles))
    await tab.reload()
    await comes(tab.tasks, lambda tasks: set(tasks) == set(titles))
    assert len(await by_keys.rows(ada.id)) == 8
