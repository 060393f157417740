"""The snippets of the documentation, for the tests that run them."""
# [Task]: T077 [From]: specs/api/rest-endpoints.md

import re
from textwrap import dedent

from tests.server import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for pattern in ("*.md", "docs/**/*.md", "specs/**/*.md", "examples/*.md")
    for path in sorted(ROOT.glob(pattern))
}
FENCED = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PROSE = {page: FENCED.sub("", text) for page, text in PAGES.items()}


def snippets(*languages: str) -> dict[str, str]:
    """The snippets in these languages, by their page, line and language."""
    return {
        f"{page}-{len(text[: match.start()].splitlines()) + 1}.{match[1]}": match[2]
        for page, text in PAGES.items()
        for match in FENCED.finditer(text)
        if match[1] in languages
    }


# Those that nobody has taken yet, by their page and language. Drawings aren't run, and `test_docs` sees to TypeScript.
_left = [
    (page, language, dedent(content))
    for page, text in PAGES.items()
    for language, content in FENCED.findall(text)
    if language not in {"text", "ts", "tsx"}
]


def take(page: str, language: str, start: str = "") -> str:
    """Takes the one snippet that begins so. It is run by the test that uses it."""
    (found,) = [one for one in _left if one[:2] == (page, language) and one[2].startswith(start)]
    _left.remove(found)
    return found[2]


FIRST_STEPS = take("README.md", "sh", "TOKEN=")
READ_TOKEN = take("docs/401-and-why.md", "sh")
MOUNTED = take("docs/hosts.md", "py")
NEXT_ID = take("docs/hosts.md", "sql")
RAISE_VERSIONS = take("docs/operations.md", "sql", "INSERT INTO task_list_version")
DROP_USER_KEYS = take("docs/operations.md", "sql", "ALTER TABLE task DROP CONSTRAINT")
SCRAPE = take("docs/operations.md", "yaml")
NGINX = take("docs/load-balancer.md", "nginx")

# The rest are commands, which are compared with the programs that they call.
SHELL = [(page, content) for page, language, content in _left if language == "sh"]
UNTAKEN = [one for one in _left if one[1] != "sh"]
