"""Computes whether a database has enough connections for a deployment: `python -m commands.connections`."""
# [Task]: T179 [From]: specs/features/hosting.md

import argparse
import sys

from config import Settings, load_settings
from errors import StartupError

# A worker checks the database for `/ready` on a connection of its own.
CHECKS = 1


def read_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError("write a whole number")
    return int(text)


def read_count(text: str) -> int:
    if not (number := read_number(text)):
        raise argparse.ArgumentTypeError("write a whole number above 0")
    return number


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line. Exits with 2 if it can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.connections",
        description="Computes how many connections the service opens at most, with DB_POOL_SIZE and DB_MAX_OVERFLOW as"
        " they are set, and whether the database has as many. Exits with 1 if it hasn't.",
    )
    parser.add_argument("--workers", type=read_count, default=1, help="of each replica (default: %(default)s)")
    parser.add_argument("--replicas", type=read_count, default=1, help="of the service (default: %(default)s)")
    parser.add_argument("--surge", type=read_number, help="new replicas beside the old in a deploy (default: as many)")
    parser.add_argument("--others", type=read_number, default=0, help="connections of others, such as Better Auth's")
    parser.add_argument("--limit", type=read_number, required=True, help="the database's max_connections")
    parser.add_argument("--reserved", type=read_number, default=3, help="of these, for superusers (default: 3)")
    return parser.parse_args(arguments)


def compute(options: argparse.Namespace, settings: Settings) -> tuple[bool, list[str]]:
    """Returns whether the connections suffice, and the arithmetic in lines."""
    pool, overflow = settings.db_pool_size, settings.db_max_overflow
    most = pool + overflow + CHECKS
    workers = options.replicas * options.workers
    surge = options.workers * (options.replicas if options.surge is None else options.surge)
    available = max(0, options.limit - options.reserved - options.others)
    in_deploy = (workers + surge) * most
    lines = [
        f"A worker opens at most {most}: DB_POOL_SIZE={pool} and DB_MAX_OVERFLOW={overflow}, and {CHECKS} for /ready.",
        f"Workers in all: {workers}. They open at most {workers * most}, and {workers * (pool + CHECKS)} at rest.",
        f"New workers in a deploy: {surge}. All then open at most {in_deploy}.",
        f"Left by the database: {available}, without {options.reserved} reserved and {options.others} of others.",
    ]
    if in_deploy <= available:
        return True, [*lines, f"They fit, and {available - in_deploy} are left."]
    share = available // (workers + surge) - CHECKS
    if share < 1:
        return False, [*lines, "They can't fit: use a pooler, fewer workers, or a database with more connections."]
    fitting = min(pool, share)
    return False, [*lines, f"They would fit with DB_POOL_SIZE={fitting} and DB_MAX_OVERFLOW={share - fitting}."]


def main() -> None:
    options = read_arguments(sys.argv[1:])
    try:
        fits, lines = compute(options, load_settings())
    except StartupError as error:
        sys.exit("\n".join(error.reasons))
    print("\n".join(lines))
    sys.exit(not fits)


if __name__ == "__main__":
    main()
