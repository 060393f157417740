"""The page at /docs, in a browser that reaches no other host."""
# [Task]: T173 [From]: specs/api/rest-endpoints.md

import pytest

from tests.browser.browser import Person
from tests.browser.stack import Stack


@pytest.mark.requirement("T173")
async def test_docs_work_offline_and_keep_a_token_on_reload(by_keys: Stack, ada: Person) -> None:
    tab = await ada.open(by_keys.api)
    await tab.do("clickOn", ".btn.authorize")
    await tab.do("type", ".auth-container input", await ada.token())
    await tab.do("clickOn", ".auth-container .authorize")
    await tab.do("clickOn", ".btn-done")

    await tab.reload()

    assert await tab.do("url") == f"{by_keys.api}/docs"
    await tab.do("clickOn", "[id$=listTasks] .opblock-summary-control")
    await tab.do("clickOn", "[id$=listTasks] .try-out__btn")
    await tab.do("type", "[id$=listTasks] [data-param-name=user_id] input", ada.id)
    await tab.do("clickOn", "[id$=listTasks] .execute")
    assert await tab.do("find", "[id$=listTasks] .live-responses-table tbody .response-col_status") == "200"
