"""`python -m benchmarks gate`: whether anything has become worse.

Owns the arguments and the exit code.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.gate import exact, ratios, selftest

DESCRIPTION = """\
Checks what no change may make worse, unseen.

  exact    commands, bytes and keys of each operation, as they stand in benchmarks/baselines/counters.json.
           Better fails as well, until it is recorded: python -m benchmarks gate --update
  ratios   the drain of a worker against a bare pipeline of the same work on the same server, in one run
  selftest plants an extra command and a slowdown, and sees the gates go red"""


def main(argv: list[str]) -> int:
    """Runs the gates; 0 if all hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "gates",
        nargs="*",
        default=["exact", "ratios"],
        metavar="GATE",
        help="exact, ratios, selftest [the first two]",
    )
    parser.add_argument("--update", action="store_true", help="record the counters as they are now")
    options = parser.parse_args(argv)
    known = {"exact": lambda: exact.check(options.update), "ratios": ratios.check, "selftest": selftest.check}
    for gate in options.gates:
        if gate not in known:
            parser.error(f"there is no gate {gate!r}: {', '.join(known)}")
    held = [known[gate]() for gate in options.gates]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
