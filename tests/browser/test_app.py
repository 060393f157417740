"""The app as people use it."""
# [Task]: T165, T170 [From]: specs/features/frontend.md

import asyncio

import pytest

from tests.browser.browser import PASSWORD, Browser, Person, Tab
from tests.browser.stack import Stack
from tests.waiting import until


async def fill_in(tab: Tab, person: Person, password: str) -> None:
    await tab.fill("E-mail", person.email)
    await tab.fill("Password", password)


# --- from sign-up to the last button


@pytest.mark.requirement("T170")
async def test_a_person_signs_up_and_works_with_tasks(stack: Stack, browser: Browser) -> None:
    person = await browser.meet(stack.origin)
    tab = await person.open("/")

    await tab.has_heading("Sign in")
    await tab.click("Create an account instead")
    await tab.fill("Name", "Ada")
    await fill_in(tab, person, PASSWORD)
    await tab.click("Create account")
    await tab.has_heading("Tasks")
    (user,) = await stack.fetch('SELECT id FROM "user" WHERE email = $1', person.email)
    for title in ("Milk", "Bread"):
        await tab.add(title)
    await tab.ticks(Bread=False, Milk=False)
    await tab.tick("Milk")
    await tab.ticks(Bread=False, Milk=True)
    await tab.edit("Bread", "Rye bread")
    await tab.fill("Description", "The dark one")
    await tab.click("Save")
    await tab.lists("Rye bread", "Milk")
    await tab.shows("The dark one")
    # What it shows is what is there.
    await tab.reload()
    await tab.shows("The dark one")
    assert await tab.tasks() == {"Rye bread": False, "Milk": True}
    assert await stack.rows(user["id"]) == [("Milk", True), ("Rye bread", False)]

    await tab.click("Clear completed")
    await tab.lists("Rye bread")
    await tab.click("Undo")
    await tab.ticks(**{"Milk": True, "Rye bread": False})
    await tab.delete("Rye bread")
    await tab.ticks(Milk=True)
    await tab.shows("Deleted “Rye bread”.")
    await tab.click("Undo")
    await tab.ticks(**{"Rye bread": False, "Milk": True})
    await tab.shows("The dark one")
    assert await tab.told() == []

    await tab.click("Sign out")
    await tab.has_heading("Sign in")
    await tab.goto("/tasks")
    await tab.has_heading("Sign in")


@pytest.mark.requirement("T170")
async def test_a_person_signs_in_again_from_another_device(by_keys: Stack, browser: Browser, ada: Person) -> None:
    elsewhere = await browser.meet(by_keys.origin, ada.email)
    tab = await elsewhere.open("/tasks")

    await tab.has_heading("Sign in")
    await fill_in(tab, ada, "a wrong password")
    await tab.click("Sign in")
    await tab.alarms("password")
    assert await browser.take_failures() == ["401 POST /api/auth/sign-in/email"]
    await fill_in(tab, ada, PASSWORD)
    await tab.click("Sign in")

    await tab.has_heading("Tasks")
    await tab.is_quiet()


@pytest.mark.requirement("T170")
async def test_an_account_that_is_there_is_not_made_twice(by_keys: Stack, browser: Browser, ada: Person) -> None:
    somebody = await browser.meet(by_keys.origin)
    tab = await somebody.open("/")

    await tab.click("Create an account instead")
    await tab.fill("Name", "Ada again")
    await fill_in(tab, ada, PASSWORD)
    await tab.click("Create account")

    await tab.alarms("account")
    assert await browser.take_failures() == ["422 POST /api/auth/sign-up/email"]
    assert len(await by_keys.fetch('SELECT FROM "user" WHERE email = $1', ada.email)) == 1


# --- lists


@pytest.mark.requirement("T170")
async def test_the_keyboard_is_enough(ada: Person) -> None:
    tab = await ada.open()
    await tab.fill("New task", "Milk")
    await tab.press("Enter")
    await tab.lists("Milk")

    await tab.click("Edit “Milk”")
    await tab.has_focus("Title")
    await tab.fill("Title", "Oat milk")
    await tab.press("Escape")
    await tab.has_focus("Edit “Milk”")
    await tab.press("Enter")
    await tab.fill("Title", "Oat milk")
    await tab.press("Enter")
    await tab.lists("Oat milk")
    await tab.has_focus("Edit “Oat milk”")

    await tab.fill("New task", "Bread")
    await tab.press("Enter")
    await tab.lists("Bread", "Oat milk")
    await tab.delete("Bread")
    await tab.has_focus("Delete “Oat milk”")
    await tab.press("Enter")
    await tab.has_focus("New task")


@pytest.mark.requirement("T170")
async def test_the_server_has_read_the_first_page(by_keys: Stack, browser: Browser, ada: Person) -> None:
    await by_keys.give(ada.id, ("Milk", None, False))
    tab = await ada.open("/api/auth/ok")
    await tab.do("block", f"{by_keys.api}/**")

    await tab.goto("/tasks")

    await tab.lists("Milk")
    await tab.goto("/api/auth/ok")  # where nothing is asked for any more
    await browser.take_failures()


@pytest.mark.requirement("T170")
async def test_a_list_is_filtered_sorted_and_searched(ada: Person) -> None:
    tab = await ada.open()
    for title in ("Bread", "Apples", "Cheese"):
        await tab.add(title)
    await tab.lists("Cheese", "Apples", "Bread")
    await tab.tick("Apples")
    await tab.ticks(Cheese=False, Apples=True, Bread=False)

    await tab.select("Show", "Open")
    await tab.lists("Cheese", "Bread")
    await tab.select("Sort by", "Oldest first")
    await tab.lists("Bread", "Cheese")
    await tab.select("Show", "Completed")
    await tab.lists("Apples")
    await tab.select("Show", "All")
    await tab.select("Sort by", "Title")
    await tab.lists("Apples", "Bread", "Cheese")
    await tab.select("Sort by", "Recently changed")
    await tab.lists("Apples", "Cheese", "Bread")
    await tab.fill("Search", "EA", "searchbox")
    await tab.lists("Bread")
    await tab.fill("Search", "", "searchbox")
    await tab.lists("Apples", "Cheese", "Bread")


@pytest.mark.requirement("T170")
async def test_all_of_150_tasks_can_be_reached(by_keys: Stack, ada: Person) -> None:
    await by_keys.give(ada.id, *((f"Task {number}", None, False) for number in range(150)))
    newest_first = [f"Task {number}" for number in reversed(range(150))]
    tab = await ada.open()

    await tab.lists(*newest_first[:50])
    await tab.shows("50 of 150")
    await tab.click("Show more")
    await tab.lists(*newest_first[:100])
    await tab.shows("100 of 150")
    await tab.click("Show more")
    await tab.lists(*newest_first)
    assert "Show more" not in await tab.seen()
    # Also those that a change of the list moves.
    await tab.delete("Task 70")
    await tab.lists(*[title for title in newest_first if title != "Task 70"])
    await tab.tick("Task 0")
    await until(lambda: by_keys.fetch("SELECT FROM task WHERE user_id = $1 AND completed", ada.id))


@pytest.mark.requirement("T170")
async def test_a_title_that_is_too_long_is_refused_and_kept(by_keys: Stack, browser: Browser, ada: Person) -> None:
    tab = await ada.open()
    await tab.add("x" * 201)

    await tab.alarms("200 characters")
    assert await tab.value("New task") == "x" * 201
    assert await browser.take_failures() == [f"422 POST /api/{ada.id}/tasks"]
    # A character is what the service counts as one.
    await tab.add("🥛" * 200)
    await tab.lists("🥛" * 200)
    await tab.is_quiet()
    assert await by_keys.rows(ada.id) == [("🥛" * 200, False)]


@pytest.mark.requirement("T170")
async def test_text_is_shown_as_it_is(ada: Person) -> None:
    title = "<img src=x onerror=alert(1)> & “quotes” \\ {curly} $1"
    tab = await ada.open()
    await tab.add(title)

    await tab.lists(title)
    await tab.reload()
    await tab.lists(title)


@pytest.mark.requirement("T165")
async def test_the_component_of_the_guide_lists_and_adds(ada: Person) -> None:
    tab, smallest = await ada.open(), await ada.open("/smallest")

    await tab.add("Milk")
    await smallest.shows("Milk")
    await smallest.fill("New task", "Bread")
    await smallest.click("Add")
    await smallest.shows("Bread")
    await tab.lists("Bread", "Milk")


# --- others, and other tabs


@pytest.mark.requirement("T170")
async def test_two_people_never_see_each_others_tasks(by_keys: Stack, browser: Browser, ada: Person) -> None:
    bob = await browser.meet(by_keys.origin)
    await bob.sign_up()
    hers, his = await ada.open(), await bob.open()

    await asyncio.gather(hers.add("Hers"), his.add("His"))
    await asyncio.gather(hers.lists("Hers"), his.lists("His"))
    await asyncio.gather(hers.reload(), his.reload())
    await asyncio.gather(hers.lists("Hers"), his.lists("His"))
    # At the same computer, one after the other.
    await hers.click("Sign out")
    await hers.has_heading("Sign in")
    await fill_in(hers, bob, PASSWORD)
    await hers.click("Sign in")
    await hers.lists("His")

    assert "Hers" not in await hers.seen()


@pytest.mark.requirement("T170")
async def test_two_tabs_see_each_others_changes(ada: Person) -> None:
    one, two = await ada.open(), await ada.open()

    await one.add("Milk")
    await two.lists("Milk")
    await two.tick("Milk")
    await one.ticks(Milk=True)
    await one.edit("Milk", "Oat milk")
    await one.click("Save")
    await two.lists("Oat milk")
    await two.delete("Oat milk")
    await one.lists()


@pytest.mark.requirement("T170")
async def test_deletions_are_undone_one_after_the_other(ada: Person) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.add("Bread")
    await tab.lists("Bread", "Milk")
    for title, left in (("Bread", ["Milk"]), ("Milk", [])):
        await tab.delete(title)
        await tab.lists(*left)
        await tab.shows(f"Deleted “{title}”.")

    await tab.click("Undo")
    await tab.lists("Milk")
    await tab.shows("Deleted “Bread”.")
    await tab.click("Undo")
    await tab.lists("Bread", "Milk")


@pytest.mark.requirement("T170")
async def test_a_double_click_deletes_one_task(by_keys: Stack, ada: Person) -> None:
    tab = await ada.open()
    await tab.add("Milk")
    await tab.add("Bread")
    await tab.lists("Bread", "Milk")

    await tab.do("doubleClick", "button", "Delete “Bread”")

    await tab.lists("Milk")
    await tab.shows("Deleted “Bread”.")
    assert await by_keys.rows(ada.id) == [("Milk", False)]


@pytest.mark.requirement("T170")
async def test_signing_out_signs_out_the_other_tabs(by_keys: Stack, ada: Person) -> None:
    one, two = await ada.open(), await ada.open()
    await two.add("Milk")
    await one.lists("Milk")

    await one.click("Sign out")

    await two.has_heading("Sign in")
    assert "Milk" not in await two.seen()
    await until(by_keys.has_no_stream)


@pytest.mark.requirement("T170")
async def test_an_account_that_is_deleted_leaves_nothing(by_keys: Stack, browser: Browser, ada: Person) -> None:
    elsewhere = await browser.meet(by_keys.origin, ada.email)
    await elsewhere.sign_in()
    one, two, three = await ada.open(), await ada.open(), await elsewhere.open()
    await one.add("Milk")
    for tab in (two, three):
        await tab.lists("Milk")

    await one.click("Delete account")
    await one.fill("Password", "a wrong password")
    await one.click("Delete my account")
    await one.alarms("password")
    await one.click("Keep it")
    await one.is_quiet()
    assert [failure for failure in await browser.take_failures() if "delete-user" not in failure] == []
    await one.click("Delete account")
    await one.fill("Password", PASSWORD)
    await one.click("Delete my account")

    for tab in (one, two, three):
        await tab.has_heading("Sign in")
        assert "Milk" not in await tab.seen()
    await until(by_keys.has_no_stream)
    for table, column in {"task": "user_id", "account": '"userId"', "session": '"userId"', '"user"': "id"}.items():
        assert await by_keys.fetch(f"SELECT FROM {table} WHERE {column} = $1", ada.id) == []
    # What was asked with a token of the account that was deleted meanwhile.
    assert all(failure.startswith("401 ") for failure in await browser.take_failures())
