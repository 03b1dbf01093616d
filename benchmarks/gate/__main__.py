"""`python -m benchmarks gate`: whether anything has become worse.

Owns the arguments and the exit code.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from benchmarks.gate import against, contenders, exact, kernels, pipeline, selftest
from benchmarks.progress import Progress

DESCRIPTION = """\
Checks what no change may make worse, unseen. Without a name, all but the last:

  exact       commands, round trips, bytes, memory, keys and Python calls of each operation, and what
              `import saq` imports, as they stand in benchmarks/baselines/counters.json. Better fails as well,
              until it is recorded: python -m benchmarks gate --update
  kernels     each compiled kernel against its uncompiled self, in one process: a ceiling for each
  pipeline    a worker's drain against a bare pipeline of the same work on the same server: a floor
  contenders  a worker's drain against those of arq, RQ and SAQ 0.26, side by side: a floor for each
  selftest    plants a command, a round trip, a Python call and a slowdown, and sees each gate go red

  python -m benchmarks gate                        before a commit: about a minute
  python -m benchmarks gate --update               record the counters as they are now
  python -m benchmarks gate --against main         is this tree slower than main? About four minutes
  python -m benchmarks gate --against HEAD --limit 5 --samples 25

Ends with 0 if all gates hold, 1 if one does not, 2 if --against could not compare."""


def main(argv: list[str]) -> int:
    """Runs the gates and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gates", nargs="*", metavar="GATE", help="only these [all but selftest]")
    parser.add_argument("--update", action="store_true", help="record the counters instead of comparing them")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="what is missing here fails as well, such as a contender",
    )
    parser.add_argument(
        "--against",
        metavar="REV",
        help="compare the working tree with another revision instead: both are built and measured in turns, "
        "with a second copy of REV beside them that shows what is chance",
    )
    parser.add_argument(
        "--samples", type=int, default=against.SAMPLES, metavar="N", help="of --against [%(default)s]"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=against.LIMIT * 100,
        metavar="PERCENT",
        help="with --against: so much slower is too slow, if it is no chance [%(default)g]",
    )
    options = parser.parse_args(argv)
    progress = Progress()
    # The servers keep nothing on disk, on purpose; workers would say so.
    logging.getLogger("saq.checkup").setLevel(logging.ERROR)
    known: dict[str, Callable[[], bool]] = {
        "exact": lambda: exact.check(progress),
        "kernels": lambda: kernels.check(progress, options.strict),
        "pipeline": lambda: pipeline.check(progress),
        "contenders": lambda: contenders.check(progress, options.strict),
        "selftest": lambda: selftest.check(progress),
    }
    for gate in options.gates:
        if gate not in known:
            parser.error(f"there is no gate {gate!r}: {', '.join(known)}")
    if options.samples < 1 or options.limit < 0:
        parser.error("--samples is at least 1, and --limit at least 0")
    if options.gates and (options.update or options.against):
        parser.error("--update and --against are done by themselves, without the name of a gate")
    try:
        if options.update:
            exact.update(progress)
            return 0
        if options.against:
            return against.check(options.against, options.samples, options.limit / 100, progress)
        held = [known[gate]() for gate in options.gates or list(known)[:-1]]
    except KeyboardInterrupt:
        progress.say("interrupted: everything was stopped")
        return 130
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
