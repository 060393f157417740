"""What was found: tables, results.json, chart.svg."""
# [Task]: T083 [From]: specs/performance.md

import json
import os
import platform
from collections.abc import Iterator, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.operations import FRESH, MEAN, MEASURED

PACKAGES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "asyncpg", "pydantic")

COLORS = {"service": "#2563eb", "floor+orjson": "#a7c4f5", "usual": "#9ca3af"}
LABELS = {"service": "this service", "floor+orjson": "the floor with orjson", "usual": "the usual way"}
FONT = 'font-family="system-ui, sans-serif" font-size="13" fill="#1f2937"'
WIDTH = 760
LEFT, RIGHT, TOP = 195, 60, 88
BAR, GROUP = 14, 56


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions(postgres: str) -> dict[str, str]:
    machine = f"{platform.system()}, {platform.machine()}, {os.cpu_count()} CPUs"
    found = {"python": platform.python_version(), "machine": machine, "postgresql": postgres}
    return found | {package: version(package) for package in PACKAGES}


def load(folder: Path) -> dict[str, Any]:
    """The earlier results, by section."""
    path = folder / "results.json"
    if not path.exists():
        return {}
    sections: dict[str, Any] = json.loads(path.read_text())
    return sections


def save(folder: Path, results: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    if "cost" in results:
        (folder / "chart.svg").write_text(chart(results["cost"]))


def chart(section: dict[str, Any]) -> str:
    """CPU per request as multiples of the floor's."""
    used_us = section["figures"]["operations"]
    names = [*MEASURED, MEAN, FRESH]

    def ratio_of(peer: str, name: str) -> float:
        if name == MEAN:
            return geometric_mean(ratio_of(peer, one) for one in MEASURED)
        ratio: float = used_us[name][peer]["cpu_us"] / used_us[name]["floor"]["cpu_us"]
        return ratio

    most = max(ratio_of(peer, name) for peer in COLORS for name in names)
    scale = (WIDTH - LEFT - RIGHT) / most
    bottom = TOP + GROUP * len(names)
    height = bottom + 46

    def text(x: float, y: float, words: str, more: str = "") -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{escape(words)}</text>'

    def bars() -> Iterator[str]:
        for row, name in enumerate(names):
            top = TOP + row * GROUP
            yield text(LEFT - 10, top + 2 * BAR, name, 'text-anchor="end"')
            for line, (peer, color) in enumerate(COLORS.items()):
                ratio = ratio_of(peer, name)
                y = top + line * BAR
                size = f'width="{ratio * scale:.1f}" height="{BAR - 1}"'
                yield f'<rect x="{LEFT}" y="{y}" {size} fill="{color}"/>'
                yield text(LEFT + max(ratio, 1) * scale + 6, y + BAR - 3, f"{ratio:.2f}")

    def legend() -> Iterator[str]:
        for number, (peer, color) in enumerate(COLORS.items()):
            x = LEFT + number * 170
            yield f'<rect x="{x}" y="44" width="12" height="12" fill="{color}"/>'
            yield text(x + 18, 55, LABELS[peer])

    floor = LEFT + scale
    used = section["versions"]
    caption = (
        f"{section['date']}, Python {used['python']}, FastAPI {used['fastapi']},"
        f" PostgreSQL {used['postgresql']}, {used['machine']}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#fff"/>',
            text(20, 28, "CPU per request, as multiples of the floor", 'font-weight="bold"'),
            *legend(),
            *bars(),
            f'<path d="M{floor:.1f} {TOP - 8}V{bottom - 6}" stroke="#1f2937"/>',
            text(floor + 5, TOP - 8, "the floor: Starlette and asyncpg alone", 'font-size="11"'),
            text(20, height - 16, caption, 'font-size="11" fill="#4b5563"'),
            "</svg>\n",
        ]
    )
