"""The OpenAPI document says what the API does: it is asked all that the document allows, and much that it
does not, and answers as the document says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from saq import Queue
from saq.web import openapi
from saq.web.routes import ROUTES
from tests.conftest import SERVER_KIND
from tests.servers import Server
from tests.web.browser.stage import Stage, cron
from tests.web.faces import CHANGE

# What schemathesis itself does with hypothesis.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

#: Names that are there, so that not every answer is a 404.
KNOWN = {"queue": "default", "job": "failed", "worker": "w", "entry": "clean_up:30 2 1 * *"}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A queue with something of everything."""
    with Server(SERVER_KIND) as server:
        stage = Stage(server)
        queue: Queue = stage.queue()
        stage.hold()
        worker = stage.worker(queue, id="w", cron_jobs=cron(), metadata={"zone": "eu-1"})
        failed = stage.enqueue(queue, "charge_card", amount="1", card="4711", retries=2, key="failed")
        done = stage.enqueue(queue, "send_email", to="a@example.org", key="done", meta={"n": 1})
        stage.ended(queue, failed, done)
        stage.enqueue(queue, "hold", progress=0.5, key="running", timeout=0)
        stage.enqueue(queue, "send_email", to="b@example.org", key="later", scheduled=time.time() + 9000)
        assert worker.id == "w"
        yield stage.serve([queue])
        stage.let_go()
        stage.close()


def operations() -> list[Any]:
    """All that the document describes. A stream of events goes on, so that it is asked elsewhere."""
    schema = schemathesis.openapi.from_dict(openapi.document(ROUTES))
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return [pytest.param(one, id=one.label) for one in found if one.path != "/api/events"]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("operation", operations())
def test_it_answers_as_the_document_says(operation: Any, mode: GenerationMode, site: str) -> None:
    try:
        ask_all(operation.as_strategy(generation_mode=mode), operation, site, known=False)
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing can be right with it"


@pytest.mark.parametrize("operation", operations())
def test_what_is_there_is_shown_as_the_document_says(operation: Any, site: str) -> None:
    ask_all(operation.as_strategy(), operation, site, known=True)


def ask_all(cases: Any, operation: Any, site: str, known: bool) -> None:
    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def ask(case: Any) -> None:
        if known:
            case.path_parameters = {name: KNOWN[name] for name in case.path_parameters or {}}
        # Where a list goes on, only the answer before knows.
        for fields in (case.query, case.body):
            if isinstance(fields, dict):
                fields.pop("cursor", None)
        headers = CHANGE if operation.method.upper() == "POST" else {}
        case.call_and_validate(base_url=site.rstrip("/"), headers=headers)

    ask()


def test_every_route_of_the_api_is_in_it() -> None:
    made = openapi.document(ROUTES)
    described = {(method.upper(), path) for path, item in made["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES if route.path.startswith("/api")}
    names = [operation["operationId"] for item in made["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
