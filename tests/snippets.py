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
MOUNTED = take("docs/servers.md", "py")
DROP_USER_KEYS = take("docs/operations.md", "sql", "ALTER TABLE task DROP CONSTRAINT")
SCRAPE = take("docs/operations.md", "yaml")
VIEW_TO_COPY = take("docs/coming-over.md", "sql")
# The files of each host, by its name and their language.
HOSTS = {
    (host, language): take(f"docs/hosts/{host}.md", language)
    for host, languages in {
        "neon": "dotenv",
        "supabase": "dotenv sql",
        "render": "yaml",
        "railway": "dotenv json",
        "fly": "toml",
        "heroku": "dotenv procfile",
        "vercel": "dotenv",
        "cloud-run": "dotenv",
    }.items()
    for language in languages.split()
}
RAISE_VERSIONS = take("docs/backups.md", "sql", "INSERT INTO task_list_version")
NEXT_ID = take("docs/backups.md", "sql", "SELECT setval(pg_get_serial_sequence('task', 'id'), (SELECT max")
SKIP_IDS = take("docs/backups.md", "sql", "SELECT setval(pg_get_serial_sequence('task', 'id'), nextval")
SKIP_SQLITE_IDS = take("docs/backups.md", "sql", "UPDATE sqlite_sequence")
DUMP_ALL = take("docs/backups.md", "sh", "pg_dump --format custom --no-owner")
RESTORE_ALL = take("docs/backups.md", "sh", "pg_restore --no-owner")
DUMP_TASKS = take("docs/backups.md", "sh", "pg_dump --format custom --data-only")
RESTORE_TASKS = take("docs/backups.md", "sh", "DATABASE_URL=")
REPLACE_TASKS = take("docs/backups.md", "sh", "pg_restore --data-only --table task --file")
COPY_USER = take("docs/backups.md", "sh", "psql")
COPY_FILE = take("docs/backups.md", "sh", "uv run python -c")
REPLACE_FILE = take("docs/backups.md", "sh", "rm")

# The rest are commands, which are compared with the programs that they call.
SHELL = [(page, content) for page, language, content in _left if language == "sh"]
UNTAKEN = [one for one in _left if one[1] != "sh"]
