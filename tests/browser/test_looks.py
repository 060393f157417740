"""How the app looks: to people who can't see it well, and in the docs' pictures."""
# [Task]: T170, T171 [From]: specs/features/frontend.md

import os
from pathlib import Path

import pytest

from tests.browser.browser import Browser, Person, Tab
from tests.browser.stack import Stack


async def check(tab: Tab) -> None:
    """Checks that axe finds nothing serious, neither in light nor in dark."""
    for scheme in ("light", "dark"):
        await tab.do("scheme", scheme)
        assert (scheme, await tab.faults()) == (scheme, [])


@pytest.mark.requirement("T171")
async def test_axe_finds_no_serious_fault_before_sign_in(by_keys: Stack, browser: Browser) -> None:
    tab = await (await browser.meet(by_keys.origin)).open("/")
    await tab.has_heading("Sign in")
    await check(tab)

    await tab.click("Create an account instead")
    await tab.has_heading("Create an account")
    await check(tab)


@pytest.mark.requirement("T171")
async def test_axe_finds_no_serious_fault_in_a_list(browser: Browser, ada: Person) -> None:
    tab = await ada.open()
    await tab.has_heading("Tasks")
    await check(tab)

    for title in ("Milk", "Bread", "Cheese"):
        await tab.add(title)
    await tab.lists("Cheese", "Bread", "Milk")
    await tab.tick("Bread")
    await tab.ticks(Cheese=False, Bread=True, Milk=False)
    await tab.delete("Milk")
    await tab.shows("Deleted “Milk”.")
    await check(tab)
    await tab.click("Edit “Cheese”")
    await check(tab)
    await tab.click("Cancel")
    await tab.add("x" * 201)
    await tab.alarms("200 characters")
    await check(tab)
    await browser.take_failures()
    await tab.click("Delete account")
    await tab.do("waitFor", "button", "Keep it")
    await check(tab)


@pytest.mark.requirement("T171")
async def test_nothing_is_cut_off_on_a_narrow_screen(by_keys: Stack, browser: Browser) -> None:
    ada = await browser.meet(by_keys.origin, viewport={"width": 320, "height": 640})
    await ada.sign_up()
    await by_keys.give(ada.id, ("x" * 200, "y" * 1000, False))
    tab = await ada.open()
    await tab.lists("x" * 200)
    assert await tab.do("overhang") == 0

    await tab.delete("x" * 200)
    await tab.shows("Undo")
    assert await tab.do("overhang") == 0


# --- pictures

# So a run writes them into the docs: SCREENSHOTS=docs/images uv run pytest tests/browser -k pictures
TASKS = [
    ("Call the dentist", None, False),
    ("Book the train to Lisbon", "The 9:14, two window seats", False),
    ("Water the plants", None, True),
    ("Read chapter four", "Up to the part on isolation levels", False),
    ("Return the library books", None, True),
]


@pytest.mark.requirement("T170")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pictures_of_the_docs_show_the_app(
    by_keys: Stack, browser: Browser, tmp_path: Path, scheme: str
) -> None:
    size = {"width": 640, "height": 580}
    ada = await browser.meet(by_keys.origin, colorScheme=scheme, viewport=size, deviceScaleFactor=1.5)
    await ada.sign_up()
    await by_keys.give(ada.id, *reversed(TASKS))
    tab = await ada.open()
    await tab.lists(*(title for title, _, _ in TASKS))
    await tab.shows(*(description for _, description, _ in TASKS if description))
    picture = f"{os.environ.get('SCREENSHOTS', tmp_path)}/app-{scheme}.png"

    await tab.do("screenshot", picture)

    check_picture(Path(picture))


def check_picture(path: Path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 100_000
