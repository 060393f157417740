"""Each command, setting and figure in the documentation is compared with the program that it is about."""
# [Task]: T077 [From]: specs/api/rest-endpoints.md

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import jwt.exceptions
import pytest
import uvicorn.config
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from opentelemetry.sdk import environment_variables
from prometheus_client.metrics import MetricWrapperBase
from uvicorn.main import main as uvicorn_command
from uvicorn.middleware.proxy_headers import _TrustedHosts

import live
import metrics
import rates
import readiness
import schemas
from auth import jwks, key_client, tokens
from auth.access import REFUSALS
from backends import pool, postgres
from benchmarks.__main__ import read_arguments
from commands import connections as connection_count
from commands import copy_tasks
from config import NAMES, Settings
from migrations import CONFIG_FILE
from routes import task_route
from runtime import connections
from tests.compose import composed
from tests.databases import postgres_programs
from tests.server import ROOT
from tests.service import make_settings
from tests.snippets import PAGES, PROSE, SHELL, UNTAKEN
from tests.test_kubernetes import OBJECTS
from tests.test_layout import FOLDERS

pytestmark = pytest.mark.requirement("T077")

CI = (ROOT / ".ci/run").read_text()
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
REVISIONS = ScriptDirectory.from_config(Config(toml_file=CONFIG_FILE))
PRODUCT = [path for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}*.py"))]
# What isn't a setting of the service is read by one of these.
READERS = [
    *(*PRODUCT, Path(uvicorn.config.__file__)),
    *(path for folder in ("", "browser/", "faults/") for path in ROOT.glob(f"tests/{folder}*.py")),
    *(path for folder in ("", "app/**/", "lib/") for path in ROOT.glob(f"examples/nextjs/{folder}*.ts")),
]


def spans(page: str) -> list[str]:
    """What stands between backticks, on one line."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", PROSE[page])]


# --- commands


@cache
def options_of(*program: str) -> set[str]:
    """The options that a program lists in its help."""
    process = subprocess.run([*program, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", process.stdout))


def check_options(words: list[str], *program: str) -> None:
    assert {word for word in words if re.match(r"--?[a-zA-Z]", word)} <= options_of(*program)


def check_uv(words: list[str]) -> None:
    if words[0] == "sync":
        check_options(words, os.environ.get("UV", "uv"), "sync")
        return
    assert words.pop(0) == "run"
    while words[0].startswith("--"):
        option = words.pop(0)
        check_options([option], os.environ.get("UV", "uv"), "run")
        assert option != "--group" or words.pop(0) in GROUPS
    if words[0].endswith(".py"):
        check_options(words[1:], sys.executable, words[0])
    else:
        PROGRAMS[words[0]](words[1:])


def check_uvicorn(words: list[str]) -> None:
    # The port that a host sets.
    words = [word.replace("$PORT", "8000") for word in words]
    if len(words) == 1 and words[0].startswith("--"):
        assert words[0].partition("=")[0] in {
            option for parameter in uvicorn_command.params for option in parameter.opts
        }
    else:
        assert uvicorn_command.make_context("uvicorn", words).params["app"] == "main:app"


def check_pytest(words: list[str]) -> None:
    check_options(words, *PYTEST)
    paths = [ROOT / word for word in words if word.startswith("tests/")]
    assert all(path.exists() for path in paths)
    files = [file for path in paths for file in (path, *path.glob("*.py")) if file.is_file()]
    assert "-k" not in words or any(words[-1] in file.read_text() for file in files)


def check_alembic(words: list[str]) -> None:
    arguments = CommandLine("alembic").parser.parse_args(words)
    if "revision" in arguments:
        assert REVISIONS.get_revision(arguments.revision)
    if "rev_id" in arguments:
        # A contributor's revision is the next one.
        assert int(arguments.rev_id) == int(REVISIONS.get_current_head() or "") + 1


def check_python(words: list[str]) -> None:
    match words:
        case ["-m", "benchmarks", *rest]:
            read_arguments(rest)
        case ["-m", module, *rest] if module in MODULES:
            MODULES[module].read_arguments(rest)
        case ["-m", "compileall", *rest]:
            check_options(rest, sys.executable, "-m", "compileall")
        case ["-c", source]:
            compile(source, "a page", "exec")
        case _:
            pytest.fail(f"unknown: {words}")


def check_npm(words: list[str]) -> None:
    match words:
        case ["install", package]:
            assert package in json.loads((ROOT / "examples/nextjs/package.json").read_text())["dependencies"]
        case ["run", name] | ["run", name, "--prefix", "examples/nextjs"]:
            assert name in json.loads((ROOT / "examples/nextjs/package.json").read_text())["scripts"]
        case ["ci", "--prefix", folder, "--ignore-scripts"]:
            assert (ROOT / folder / "package-lock.json").is_file()
        case _:
            pytest.fail(f"unknown: {words}")


def check_npx(words: list[str]) -> None:
    # Tried by hand with the better-auth of the tests: it makes all tables, that of the JWT plugin too.
    assert words == ["@better-auth/cli", "migrate"]


def check_in_ci(*words: str) -> None:
    assert re.search(rf"\b{re.escape(' '.join(words))}\b", CI)


def check_postgres(program: str, words: list[str]) -> None:
    check_options(words, str(postgres_programs() / program))


def check_systemctl(words: list[str]) -> None:
    check_options(words, "systemctl")
    units = [word for word in words[1:] if not word.startswith("-")]
    assert words[0] == "daemon-reload" or units
    for unit in units:
        assert (ROOT / "deploy" / re.sub(r"@\d+\.", "@.", unit)).is_file()


# The tests need no kubectl. Its options are read from https://kubernetes.io/docs/reference/kubectl/generated/
KUBECTL_OPTIONS = {
    "apply": {"-f"},
    "create": {"--from-env-file"},
    "delete": {"--ignore-not-found", "-f"},
    "rollout": set[str](),
    "wait": {"--for", "--timeout"},
}


def check_kubectl(words: list[str]) -> None:
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= KUBECTL_OPTIONS[words[0]]
    for word in words:
        if word.startswith("deploy/"):
            assert (ROOT / word).is_file()
        elif named := re.fullmatch(r"(deployment|job)/(.+)", word):
            assert named.groups() in {(one["kind"].lower(), one["metadata"]["name"]) for one in OBJECTS.values()}


def check_copy(program: str, words: list[str]) -> None:
    # Short options may be one word.
    options = [f"-{letter}" for word in words if re.fullmatch(r"-[a-z]+", word) for letter in word[1:]]
    check_options(options, program)
    # What is copied is in the repository, and what a link leads to is a release.
    *_, source, target = words
    assert (ROOT / source).is_file() or source.startswith("/opt/todo-api/")
    assert target.startswith(("/etc/", "/opt/todo-api/"))


# The tests need no Docker. Its options are read from https://docs.docker.com/reference/cli/docker/container/run/
DOCKER_OPTIONS = {
    "build": {"--tag", "--build-arg"},
    "run": {"--read-only", "--env-file", "--publish", "--stop-timeout", "--rm"},
    # https://docs.docker.com/reference/cli/docker/compose/up/
    "compose up": {"--build", "--detach", "--wait"},
}


def check_docker(words: list[str]) -> None:
    match words:
        case ["compose", "exec", "-T", "db", *command] | ["compose", "run", "--rm", "api", *command]:
            PROGRAMS[command[0]](command[1:])
            return
        case ["compose", verb, *rest]:
            words = [f"compose {verb}", *rest]
    inside: list[str] = []
    if words[0] == "run":
        place = words.index("todo-api")
        words, inside = words[:place], words[place + 1 :]
    assert {word for word in words if word.startswith("--")} <= DOCKER_OPTIONS[words[0]]
    if inside:
        PROGRAMS[inside[0]](inside[1:])


def check_printf(words: list[str]) -> None:
    """Fails if it doesn't set all that compose.yaml needs."""
    *arguments, redirection, file = words
    printed = subprocess.run(["printf", *arguments], capture_output=True, text=True, check=True).stdout
    assert (redirection, file) == (">>", ".env")
    composed(**dict(line.split("=") for line in printed.splitlines()))


PYTEST = (sys.executable, "-m", "pytest")
# The project's own commands.
MODULES = {module.__name__: module for module in (copy_tasks, connection_count)}
PROGRAMS: dict[str, Callable[[list[str]], object]] = {
    "uv": check_uv,
    "uvicorn": check_uvicorn,
    "pytest": check_pytest,
    "alembic": check_alembic,
    "python": check_python,
    ".venv/bin/python": check_python,
    "systemctl": check_systemctl,
    "kubectl": check_kubectl,
    "cp": partial(check_copy, "cp"),
    "install": partial(check_copy, "install"),
    "ln": partial(check_copy, "ln"),
    "useradd": lambda words: check_options(words, "/usr/sbin/useradd"),
    "ruff": lambda words: check_in_ci("ruff", *words),
    "mypy": lambda words: check_in_ci("mypy", *words),
    "bash": lambda words: subprocess.run(["bash", "-n", ROOT / words[0]], check=True),
    "npm": check_npm,
    "npx": check_npx,
    "openssl": lambda words: subprocess.run(["openssl", *words], check=True, capture_output=True),
    "pg_dump": partial(check_postgres, "pg_dump"),
    "pg_restore": partial(check_postgres, "pg_restore"),
    "docker": check_docker,
    "printf": check_printf,
    "apt-get": lambda words: check_in_ci("apt_install", *words[1:]),
}
COMMANDS = [
    (page, command.strip())
    for page, content in SHELL
    for line in content.splitlines()
    for command in re.sub(r"(^|\s)#.*", "", line).split("&&")
    if command.strip()
]
COMMANDS += [(page, span) for page in PROSE for span in spans(page) if re.match(rf"({'|'.join(PROGRAMS)}) \S", span)]


def test_no_snippet_is_left_unrun() -> None:
    assert UNTAKEN == []


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_the_command_is_one(page: str, command: str) -> None:
    words = shlex.split(re.sub(r"\$\(.*?\)", "…", command).removeprefix("export "))
    while words and (variable := re.fullmatch(r"([A-Z][A-Z_]*)=(.*)", words[0])):
        check_variable(*variable.groups())
        words.pop(0)
    if words:
        PROGRAMS[words[0]](words[1:])


# --- options and variables in running text

# Of programs that aren't installed: granian, hypercorn and Docker.
OTHER_OPTIONS = {"--interface", "--graceful-timeout", "--env-file"}
OPTIONS = [(page, span) for page in PROSE for span in spans(page) if re.match(r"--[a-z]", span)]


@pytest.mark.parametrize(("page", "span"), OPTIONS)
def test_the_option_is_one(page: str, span: str) -> None:
    words = span.split()
    ours = [module for name, module in MODULES.items() if words[0] in options_of(sys.executable, "-m", name)]
    if page == "docs/benchmarks.md":
        read_arguments(words)
    elif ours:
        # An option alone stands for itself with any value.
        assert len(words) == 1 or ours[0].read_arguments(words)
    elif words[0] not in OTHER_OPTIONS | options_of(*PYTEST):
        check_uvicorn(words if len(words) == 1 else ["main:app", *words])


# Of hosts and their builds. uvicorn reads each of its options from a variable, too.
OTHER_VARIABLES = {"DATABASE_PUBLIC_URL", "UV_VERSION", "VERCEL_BRANCH_URL"}
OTHER_VARIABLES |= {f"UVICORN_{parameter.name}".upper() for parameter in uvicorn_command.params}
VARIABLES = [(page, span) for page in PROSE for span in spans(page) if re.fullmatch(r"[A-Z]+_[A-Z_]+(=\S+)?", span)]


def check_variable(name: str, value: str) -> None:
    """Fails if nobody reads this variable, or if it is a setting that can't have this value."""
    if name.lower() in NAMES:
        if value not in {"", "…"}:
            # With what USER_TABLE needs.
            others = {"database_url": "postgresql://localhost/todo", "better_auth_url": "https://a.example"}
            make_settings(**others | {name.lower(): value.replace("…", "x.")})
        return
    known = name in OTHER_VARIABLES or name in vars(environment_variables)
    assert known or any(re.search(rf"\b{name}\b", path.read_text()) for path in READERS)
    if name == "FORWARDED_ALLOW_IPS" and value:
        trusted = _TrustedHosts(value)
        assert trusted.always_trust or trusted.trusted_networks


@pytest.mark.parametrize(("page", "span"), VARIABLES)
def test_the_variable_is_read_by_somebody(page: str, span: str) -> None:
    name, _, value = span.partition("=")

    check_variable(name, value)


# --- metrics, messages, figures


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their head."""
    section = PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [re.split(r" ?(?<!\\)\| ?", line) for line in lines if "`" in line]


def quoted(text: str) -> list[str]:
    return re.findall("`([^`]+)`", text)


def test_each_metric_is_explained_once() -> None:
    ours = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    names = {metric: next(iter(metric.describe())).name + "_total" * (metric._type == "counter") for metric in ours}

    table = [(name, row) for row in rows("docs/operations.md", "Metrics") for name in quoted(row[0])]

    assert sorted(name for name, _ in table) == sorted(names.values())
    explained = dict(table)
    for metric, name in names.items():
        _, labels, text = explained[name]
        assert quoted(labels) == list(metric._labelnames)
        # The values that are there from the start. Faults are explained on a page of their own.
        if metric in {metrics.TIMEOUTS, metrics.TOKEN_VERDICTS, metrics.LIMITS_REACHED}:
            assert set(quoted(text)) >= {value for (value,) in metric._metrics}


def patterns() -> list[str]:
    """What the service may say: each text of the code, as a pattern with gaps for its values. One with several may be
    cut after the second. Those with hardly any text of their own would match everything.
    """
    found = []
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    found.append(re.escape(text))
                case ast.JoinedStr(values=parts):
                    gaps = [re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts]
                    found += ["".join(gaps), "".join(gaps[:4])]
    return [pattern for pattern in found if len(pattern.replace(".+", "")) >= 8]


MESSAGES = "|".join(patterns())
WHY = "docs/401-and-why.md"
SAID = [
    *(text for row in rows(WHY, "Invalid token") for text in quoted(row[0])),
    *re.findall(r"- \*\*\d+\*\* `([^`]+)`", PAGES[WHY]),
    *re.findall(r"[Tt]he log says `([^`]+)`", PAGES[WHY]),
]


@pytest.mark.parametrize("text", SAID)
def test_the_service_says_this(text: str) -> None:
    assert re.fullmatch(MESSAGES, text) or issubclass(getattr(jwt.exceptions, text), jwt.PyJWTError)


def test_each_401_is_explained() -> None:
    table = re.findall(r"^\| `([^`]+)` \|", PAGES[WHY].partition("\n## ")[0], re.MULTILINE)

    assert set(table) == {detail for _, detail, _ in REFUSALS.values()}


KIB = 1024
FIGURES = [
    ("README.md", f"up to {schemas.MOST_TASKS} new tasks"),
    ("README.md", f"`ids` ({schemas.MOST_IDS} at most)"),
    ("docs/operations.md", f"at most {live.MOST_STREAMS_OF_A_USER} streams of one user (then 429)"),
    ("docs/operations.md", f"and {live.MOST_STREAMS:,} in all (then 503)"),
    ("docs/operations.md", f"at most {rates.MOST_AT_ONCE} connections a worker"),
    ("docs/load-balancer.md", f"at most {live.MOST_STREAMS:,} streams, and {live.MOST_STREAMS_OF_A_USER} of one user"),
    ("docs/hardening.md", f"at most {tokens.MAX_TOKEN_BYTES // KIB} KiB"),
    ("docs/hardening.md", f"a body by {task_route.MAX_BODY_BYTES // KIB} KiB"),
    (
        "docs/hardening.md",
        f"by {key_client.MAX_RESPONSE_BYTES // KIB} KiB and {key_client.FETCH_TIMEOUT_SECONDS:.0f} s",
    ),
    ("docs/hardening.md", f"{connections.MAX_HEAD_BYTES // KIB**2} MiB or {connections.MAX_HEADERS:,} headers"),
    ("docs/hardening.md", f"at most once in {jwks.REFETCH_SECONDS:.0f} s"),
    ("docs/hardening.md", f"within {jwks.MAX_AGE_SECONDS / 60:.0f} minutes"),
    ("docs/401-and-why.md", f"the {tokens.CLOCK_SKEW_SECONDS} seconds that are allowed"),
    ("docs/reliability.md", f"| {key_client.FETCH_TIMEOUT_SECONDS:.0f} s | 503 if none are cached |"),
    ("docs/reliability.md", f"`RATE_LIMIT_STORAGE` | {rates.STORE_SECONDS:.0f} s |"),
    ("docs/reliability.md", f"`/ready` | {readiness.CHECK_SECONDS:.0f} s;"),
    (
        "docs/reliability.md",
        f"idled for {postgres.TRUSTED_IDLE_SECONDS:.0f} s | {postgres.PING_TIMEOUT_SECONDS:.0f} s |",
    ),
    ("docs/reliability.md", f"to close | {pool.CLOSE_TIMEOUT_SECONDS:.0f} s,"),
]


@pytest.mark.parametrize(("page", "figure"), FIGURES)
def test_the_figure_is_the_codes(page: str, figure: str) -> None:
    assert figure in " ".join(PAGES[page].split())


@pytest.mark.parametrize("page", PAGES)
def test_a_settings_default_is_the_codes(page: str) -> None:
    for name, seconds in re.findall(r"`([A-Z_]+)`, ([\d.]+) s\b", PAGES[page]):
        assert Settings.model_fields[name.lower()].default == float(seconds)
