"""Millions of damaged inputs for the decoders of both selves.

    python -m tests.parity.fuzz --inputs 10000000 --jobs 2

Real values are damaged at random, from a seed, and given to both selves. An input on which they differ, or
which raises anything but what the decoder promises, is printed, and ends the run with 1; so does a crash of
the interpreter, with the chunk it happened in. `--chunk N` runs that chunk alone.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from saq.errors import DecodeError
from saq.serializer import loads
from tests.parity.selves import Handle, Kernels, described, load

#: Inputs per chunk, each of which has a seed of its own.
CHUNK = 50_000

_TIME = b"1767225600000"
_PAYLOAD = (
    b'{"function":"send_mail","kwargs":{"user":48151623,"tags":["a",null,true,-1.5e3],'
    b'"text":"\\u00fc\\ud83d"}}'
)
_WHOLE = (
    b'{"function":"f","kwargs":null,"heartbeat":5,"retry_delay":0.5,"retry_backoff":true,"group_key":"g",'
    b'"meta":{"a":[1]},"progress":0.25,"error":"e","invented":9223372036854775808}'
)
_RECORD = (
    _TIME
    + b";p-5;t60.5;T30;r3;Scomplete;a2;b1767225600003;wworker%%7B1;o9;e5;m10;c1767225600009\n"
    + _PAYLOAD
) + b'{"s":1.5}errorx4:meta2:{}'

#: Decoder, and what it is given before it is damaged.
CORPUS: dict[str, list[bytes]] = {
    "value": [
        _TIME + b'\n{"function":"noop"}',
        _TIME + b"\n" + _PAYLOAD,
        _TIME + b";p5;t0.5;T30;r3;s1767225700.25\n" + _WHOLE,
        _TIME + b"\n " + _WHOLE,
    ],
    "unpack_record": [_RECORD, _TIME + b';Sfailed;a1;b1;w1;e3;c2\n{"function":"f"}err'],
    "payload": [_PAYLOAD, _WHOLE, b" " + _WHOLE],
    "claim": [_TIME + b'\n{"function":"noop"}', _TIME + b";T30;r3\n" + _WHOLE],
    "split_netstrings": [b'4:meta10:{"step":3}8:progress3:0.5', b"0:1:x11:hello world2:ab"],
    "key_of": [b"41000:019b7a3c5e000000019f8a3c5e7b", b"7:\xed\xa0\x80", b"1:a:b:c"],
    "load_plain": [
        b'[1234567890123456789,-1234567890123456789,12345678901234567890,1e5,"1234567890123456789012"]',
        _WHOLE,
    ],
}
#: What a decoder may raise: netstrings and JSON say so to modules that make a DecodeError of it.
MAY_RAISE: dict[str, type[Exception]] = {"split_netstrings": ValueError, "load_plain": ValueError}

#: What is put in: all that means something to one of the decoders.
TOKENS = [
    *(
        b"\n",
        b";",
        b":",
        b" ",
        b"",
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\\ud800",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b",",
        b"-",
        b".",
        b"+",
        b"_",
        b"null",
        b"NaN",
        b"Infinity",
        b"nan",
        b"inf",
        b"1e999",
        b"true",
        b'""',
        b"{}",
    ),
    *(
        b"%d" % (sign * (2**power + step))
        for power in (31, 53, 63, 64)
        for step in (-1, 0)
        for sign in (1, -1)
    ),
    *(b"9" * count for count in (18, 19, 20, 40, 4500)),
    *(b";" + bytes([tag]) for tag in b"ptTrsabcoemSwZ"),
    *(
        b"Scomplete",
        b"Sfailed",
        b";o5",
        b";o-5",
        b";m99999999999999999999",
        b"[" * 1100,
        b'"function":',
        b'"meta":',
    ),
]


_TOO_DEEP = "nested too deeply"


class Difference(AssertionError):
    """Both selves do not do the same, or not what is promised."""


def damage(source: bytes, chance: random.Random) -> bytes:
    """``source`` with one to five things changed."""
    data = bytearray(source)
    below = chance.random
    for _ in range(1 + int(5 * below() * below())):
        at = int(below() * (len(data) + 1))
        kind = int(below() * 6)
        if kind == 0 and at < len(data):
            data[at] = int(below() * 256)
        elif kind == 1:
            del data[at : at + 1 + int(8 * below() * below())]
        elif kind == 2 or kind == 3:
            data[at:at] = TOKENS[int(below() * len(TOKENS))]
        elif kind == 4:
            end = int(below() * (len(data) + 1))
            data[at:at] = data[end : end + int(below() * 24)]
        elif below() < 0.2:
            del data[at:]
        else:
            data[at : at + 1] = TOKENS[int(below() * len(TOKENS))]
    return bytes(data)


def _finish(fields: dict[str, Any], history: Any) -> None:
    fields["attempts"] = history


def decoders(kernels: Kernels) -> dict[str, Callable[[bytes], Any]]:
    """What is fuzzed of one self."""
    unpack_value, unpack_payload, unpack_claims = (
        kernels.unpack_value,
        kernels.unpack_payload,
        kernels.unpack_claims,
    )
    quick = kernels.load_plain
    common = {"status": "active", "attempts": 1}

    def claim(data: bytes) -> Any:
        return unpack_claims([b"7:key", data, 0, data, data, 1], 0, common, Handle, quick, loads, _finish)

    return {
        "value": lambda data: unpack_value(data, quick, loads),
        "payload": lambda data: unpack_payload(data, quick, loads),
        "claim": claim,
        "unpack_record": kernels.unpack_record,
        "split_netstrings": kernels.split_netstrings,
        "key_of": kernels.key_of,
        "load_plain": quick,
    }


def compare(
    name: str,
    one: Callable[[bytes], Any],
    other: Callable[[bytes], Any],
    data: bytes,
    allowed: type[Exception],
) -> bool:
    """Whether both accept ``data``. Raises ``Difference``."""
    outcomes = [_outcome(name, decode, data, allowed) for decode in (one, other)]
    if outcomes[0] != outcomes[1] and any(_TOO_DEEP in text for _, text in outcomes):
        # How deep `json` can read depends on how deep its caller is, and the compiled self has no frames.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(10 * limit)
        try:
            outcomes = [_outcome(name, decode, data, allowed) for decode in (one, other)]
        finally:
            sys.setrecursionlimit(limit)
    if outcomes[0] != outcomes[1]:
        raise Difference(f"{name} differs on {data!r}:\n  {outcomes[0][1][:500]}\n  {outcomes[1][1][:500]}")
    return outcomes[0][0]


def _outcome(
    name: str, decode: Callable[[bytes], Any], data: bytes, allowed: type[Exception]
) -> tuple[bool, str]:
    try:
        return True, described(decode(data))
    except Exception as error:
        if not isinstance(error, allowed):
            raise Difference(f"{name} raised {error!r} on {data!r}") from error
        return False, f"{type(error).__name__}: {error}"


def run_chunk(seed: int, chunk: int, inputs: int, selves: tuple[str, str] = ("", "_c")) -> int:
    """How many of the inputs were accepted. Raises ``Difference``."""
    faulthandler.enable()
    chance = random.Random(f"{seed} {chunk}")
    one, other = (decoders(load(suffix)) for suffix in selves)
    cases = [(name, one[name], other[name], source) for name in CORPUS for source in CORPUS[name]]
    sources = [source for _, _, _, source in cases]
    count, accepted = len(cases), 0
    for _ in range(inputs):
        name, mine, theirs, source = cases[int(chance.random() * count)]
        if chance.random() < 0.02:
            source = sources[int(chance.random() * count)]  # one decoder's food for another
        data = damage(source, chance)
        accepted += compare(name, mine, theirs, data, MAY_RAISE.get(name, DecodeError))
    return accepted


def main() -> int:
    """Runs all chunks. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.fuzz", description="Fuzzes the decoders.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many in all [1000000]")
    parser.add_argument("--jobs", type=int, default=2, help="processes [2]")
    parser.add_argument("--seed", type=int, default=1, help="of the damage [1]")
    parser.add_argument("--chunk", type=int, help="run this one alone, in this process")
    options = parser.parse_args()
    if options.chunk is not None:
        print(f"{run_chunk(options.seed, options.chunk, CHUNK):,} of {CHUNK:,} accepted")
        return 0
    sizes = [CHUNK] * (options.inputs // CHUNK) + [options.inputs % CHUNK] * (options.inputs % CHUNK > 0)
    began = time.monotonic()
    done = accepted = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        chunks = {
            pool.submit(run_chunk, options.seed, number, size): (number, size)
            for number, size in enumerate(sizes)
        }
        for future in as_completed(chunks):
            number, size = chunks[future]
            try:
                accepted += future.result()
            except (Difference, BrokenProcessPool) as error:
                print(f"\nchunk {number} of seed {options.seed}: {type(error).__name__}: {error}", flush=True)
                pool.shutdown(wait=False, cancel_futures=True)
                return 1
            done += size
            rate = done / (time.monotonic() - began)
            end = "\r" if sys.stdout.isatty() else "\n"
            if end == "\r" or done % (20 * CHUNK) < size or done == options.inputs:
                print(f"{done:>12,} inputs, {accepted:,} accepted, {rate:,.0f}/s", end=end, flush=True)
    print(f"{done:,} inputs in {time.monotonic() - began:.0f} s: the same from both selves, no crash")
    return 0


if __name__ == "__main__":
    sys.exit(main())
