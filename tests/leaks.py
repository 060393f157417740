"""Looks for secrets in all that the service says while the tests run."""
# [Task]: T081 [From]: specs/api/rest-endpoints.md

import logging
import re

import httpx

# The password of every database URL in the tests.
PASSWORD = "hunter2"
SECRET = "a-shared-secret-of-the-tests-long-enough-for-every-HMAC-algorithm-there-is"

# How the header and the claims of every JWT begin: `{"` in base64url. What doesn't, its signature
# or a part of it, is found by the segments that were issued.
JWT = re.compile(r"eyJ[\w-]{8,}")
SEGMENT = re.compile(r"[\w-]{20,}")


class LeakWatch(logging.Handler):
    """Reads each log line of whatever level, before `logs.py` leaves out what looks like a token,
    and what it is given to read: answers, and the output of processes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._issued: set[str] = set()
        self._leaks: list[str] = []

    def issue(self, token: str) -> str:
        """Takes note of a token of the tests, and gives it back."""
        self._issued.update(SEGMENT.findall(token))
        return token

    def read(self, text: str, where: str) -> None:
        if SECRET in text or PASSWORD in text or JWT.search(text) or not self._issued.isdisjoint(SEGMENT.findall(text)):
            self._leaks.append(f"{where}: {text}")

    def read_answer(self, answer: httpx.Response) -> None:
        # An image is no text.
        body = answer.content.decode(errors="replace")
        self.read(f"{dict(answer.headers)} {body}", "an answer")

    def emit(self, record: logging.LogRecord) -> None:
        self.read(self.format(record), f"the log of {record.name}")

    def take(self) -> list[str]:
        """What leaked since the last time."""
        leaks, self._leaks = self._leaks, []
        return leaks


watch = LeakWatch()
