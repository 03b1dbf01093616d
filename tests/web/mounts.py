"""Applications of others, in each of which the web interface is mounted twice; uvicorn serves them."""

from __future__ import annotations

import os
from typing import Any

from saq import Queue
from saq.web.starlette import saq_web


def queues() -> tuple[Queue, Queue]:
    url = os.environ["SAQ_TEST_URL"]
    return Queue.from_url(url), Queue.from_url(url, name="other")


def fastapi() -> Any:
    from fastapi import FastAPI

    one, two = queues()
    app = FastAPI()

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    app.mount("/monitor", saq_web("/monitor", queues=[one]))
    app.mount("/deep/er", saq_web("/deep/er", queues=[two], read_only=True))
    return app


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    async def hello(_: Any) -> JSONResponse:
        return JSONResponse("hello")

    one, two = queues()
    return Starlette(
        routes=[
            Route("/hello", hello),
            Mount("/monitor", saq_web("/monitor", queues=[one])),
            Mount("/deep/er", saq_web("/deep/er", queues=[two], read_only=True)),
        ]
    )


def litestar() -> Any:
    from litestar import Litestar, asgi, get

    one, two = queues()

    @get("/hello")
    async def hello() -> str:
        return '"hello"'

    return Litestar(
        [
            hello,
            asgi("/monitor", is_mount=True, copy_scope=True)(saq_web("/monitor", queues=[one])),
            asgi("/deep/er", is_mount=True, copy_scope=True)(
                saq_web("/deep/er", queues=[two], read_only=True)
            ),
        ]
    )


def bare() -> Any:
    """Served by itself."""
    return saq_web("", queues=queues())
