# [Task]: T012 [From]: specs/features/task-crud.md
"""Numbers in the path and the query."""

import pytest

from tests.service import User

NO_INTEGERS = ["+1", "-1", "1_0", "%201", "1%20", "1.5", "1.0", "0x1", "1e3", "a", "", "%00"]
NO_INTEGERS += ["\u0661", "\uff11", "9" * 5000, str(2**63), "null", "true"]


@pytest.mark.requirement("T012")
@pytest.mark.parametrize("text", [*(text for text in NO_INTEGERS if text), "0"])
async def test_a_task_id_is_plain_digits_from_1(alice: User, text: str) -> None:
    for method, path in [("GET", ""), ("DELETE", ""), ("PATCH", "/complete")]:
        response = await alice.request(method, f"/{text}{path}")
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["path", "task_id"]
    assert (await alice.request("PUT", f"/{text}", json={})).status_code == 422


@pytest.mark.requirement("T012")
@pytest.mark.parametrize("text", ["1", "001", str(2**63 - 1)])
async def test_a_task_id_in_range_is_looked_up(alice: User, text: str) -> None:
    assert (await alice.get(f"/{text}")).status_code == 404


@pytest.mark.requirement("T012")
@pytest.mark.parametrize("name", ["limit", "offset", "skip"])
@pytest.mark.parametrize("text", NO_INTEGERS)
async def test_paging_takes_plain_digits(alice: User, name: str, text: str) -> None:
    response = await alice.get(f"?{name}={text}")

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", name]


@pytest.mark.requirement("T012")
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=1", 200),
        ("limit=1000", 200),
        ("limit=1001", 422),
        ("offset=0", 200),
        (f"offset={2**63 - 1}", 200),
        (f"skip={2**63 - 1}", 200),
        (f"limit=1000&offset={2**63 - 1}", 200),
        ("unknown=%00", 200),
    ],
)
async def test_paging_has_bounds(alice: User, query: str, status: int) -> None:
    assert (await alice.get(f"?{query}")).status_code == status


@pytest.mark.requirement("T012")
@pytest.mark.parametrize(
    "text", ["1", "0", "True", "yes", "on", "t", "", "null", "%00", "truefalse"]
)
async def test_the_filter_takes_true_and_false(alice: User, text: str) -> None:
    response = await alice.get(f"?completed={text}")

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "completed"]
