"""What a worker's settings are made of, and whether they can be.

Owns the small values that settings hold, and the words in which a wrong one is refused. Must not start or
claim anything.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saq.errors import UsageError
from saq.queue.base import Queue

Hooks = tuple[Callable[..., Any], ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A queue among several that a worker takes jobs from, and how many it takes from it.

    Args:
        queue: whose jobs.
        weight: its part of the jobs that are started while several queues have some: with weights of 3 and 1,
            three of four. None: the queues are served in their order. Either all have a weight or none.
        limit: how many of its jobs run at once, at the most; None: as many as the worker's ``concurrency``.

    Raises:
        UsageError: a ValueError that says what was expected.
    """

    queue: Queue
    weight: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.queue, Queue):
            raise UsageError(f"queue must be a Queue, got {self.queue!r}; see Queue.from_url")
        weight: Any = self.weight
        if weight is not None and (
            not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 < weight < math.inf
        ):
            raise UsageError(f"the weight of {self.queue!r} must be a number above 0, got {weight!r}")
        if self.limit is not None:
            at_least(f"the limit of {self.queue!r}", self.limit, 1, whole=True)


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that a worker runs, where more is to be said of it than the function itself.

    Args:
        function: async or sync: ``f(ctx, *, …)``.
        name: what jobs call it; its ``__qualname__`` if not given.
        process: run it in a process of its own, which is killed at the job's timeout: for functions that
            compute. It has to be importable: at the top level of a module.

    Raises:
        UsageError: a ValueError that says what was expected.
    """

    function: Callable[..., Any]
    name: str | None = None
    process: bool = False

    def __post_init__(self) -> None:
        name: Any = self.name
        if not callable(self.function):
            raise UsageError(f"function must be a callable, got {self.function!r}")
        if name is not None and (not isinstance(name, str) or not name):
            raise UsageError(f"name must be the name of {self.function!r} as text, got {name!r}")
        if not isinstance(self.process, bool):
            raise UsageError(f"process must be True or False, got {self.process!r}")


def handler(given: Any) -> Handler:
    """A function as settings hold it: a callable, a pair (name, callable), or a ``Handler``.

    The result has a name. One for a process is found to be importable there.
    """
    if isinstance(given, Handler):
        found = given
    elif isinstance(given, tuple):
        if len(given) != 2 or not isinstance(given[0], str) or not callable(given[1]):
            raise UsageError(_FUNCTIONS.format(given))
        found = Handler(given[1], given[0] or None)
    elif callable(given):
        found = Handler(given)
    else:
        raise UsageError(_FUNCTIONS.format(given))
    name = found.name or getattr(found.function, "__qualname__", None)
    if name is None:
        raise UsageError(f"{_FUNCTIONS.format(found.function)}; it has no __qualname__: give it a name")
    if found.process:
        reference(found.function)
    return Handler(found.function, name, found.process)


_FUNCTIONS = "functions holds callables and pairs (name, callable), or Handler(function, …), not {!r}"


def reference(function: Callable[..., Any]) -> bytes:
    """The function as another process imports it: by module and name.

    Raises:
        UsageError: it cannot.
    """
    try:
        return pickle.dumps(function)
    except Exception as error:
        raise UsageError(
            f"process=True needs a function that another process can import, defined at the top level of a "
            f"module; {function!r} is none: {error}"
        ) from error


def shares(queue: Any, queues: Any) -> list[Share]:
    """What the settings ``queue`` and ``queues`` say: one of them is given."""
    if queues is None:
        if not isinstance(queue, Queue):
            raise UsageError(f"queue must be a Queue, got {queue!r}; see Queue.from_url")
        return [Share(queue)]
    if queue is not None:
        raise UsageError("queue and queues are both given: queues alone names all that the worker works for")
    if isinstance(queues, Mapping):
        found = [Share(queue, weight=_weight(queue, weight)) for queue, weight in queues.items()]
    else:
        found = []
        for item in several("queues", queues):
            if not isinstance(item, (Queue, Share)):
                raise UsageError(
                    f"queues holds queues and Share(queue, …), or is a dict of their weights; not {item!r}"
                )
            found.append(item if isinstance(item, Share) else Share(item))
    if not found:
        raise UsageError("queues must hold at least one queue")
    if len({share.weight is None for share in found}) > 1:
        without = next(share.queue for share in found if share.weight is None)
        raise UsageError(f"queues gives weights to some and none to {without!r}: give all a weight, or none")
    seen: set[str] = set()
    for share in found:
        if (name := repr(share.queue)) in seen:
            raise UsageError(f"queues has {name} twice")
        seen.add(name)
    return found


def _weight(queue: Any, weight: Any) -> Any:
    if weight is None:
        raise UsageError(f"the weight of {queue!r} must be a number above 0, got None")
    return weight


def hooks(name: str, given: Any) -> Hooks:
    """One or several callables."""
    if given is None:
        return ()
    found = (given,) if callable(given) else tuple(given) if isinstance(given, Iterable) else (given,)
    for hook in found:
        if not callable(hook):
            raise UsageError(f"{name} must be a callable or several, got {hook!r}")
    return found


def several(name: str, values: Any) -> list[Any]:
    """The items of a collection that is no single thing."""
    if callable(values) or not isinstance(values, Iterable) or isinstance(values, str):
        raise UsageError(f"{name} must be a collection, such as a list, got {values!r}")
    return list(values)


def at_least(name: str, value: Any, least: float, *, whole: bool = False) -> None:
    """Refuses what is no number, or too small a one."""
    kinds = (int,) if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not value >= least:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{name} must be {kind} of at least {least:g}, got {value!r}")
