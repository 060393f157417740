"""Every test looks for secrets in what the service says; these show that it would find them."""
# [Task]: T081 [From]: specs/api/rest-endpoints.md

import logging

import pytest

from tests.leaks import PASSWORD, SECRET, watch
from tests.service import Service, make_token

TOKEN = make_token("somebody")
logger = logging.getLogger("some.module")


@pytest.mark.requirement("T081")
@pytest.mark.parametrize(
    "secret", [TOKEN, *TOKEN.split("."), TOKEN.replace(".", " . "), SECRET, f"postgresql://user:{PASSWORD}@host/todo"]
)
def test_a_secret_in_the_log_is_found(secret: str) -> None:
    logger.debug("It was %s.", secret)
    logger.error("Unforeseen error", exc_info=ValueError(secret))

    assert len(watch.take()) == 2


@pytest.mark.requirement("T081")
def test_what_is_no_secret_is_passed_over() -> None:
    logger.info("GET /api/0123456789abcdef0123456789abcdef/tasks 200 1.5 ms %s", SECRET[:20])

    assert watch.take() == []


@pytest.mark.requirement("T081")
async def test_a_secret_in_an_answer_is_found(service: Service) -> None:
    await service.user().new_task(SECRET)

    assert len(watch.take()) == 1
