"""The web interface: what the queues do, and the few things one may do to them.

Owns everything that speaks HTTP. Must not know Redis, run a job, or hold a global: all state belongs to one
``WebApp``, so that several can live in one process.

    http.py       a request and a response as values, and an error that has a status
    paths.py      raw paths: taken apart, put together, made relative
    security.py   who may come in, what may change something, what every response says to a browser
    routes.py     the table of routes; params.py, bodies.py, cursors.py: what comes in, checked
    schemas.py    what goes out, in words; openapi.py: both as an OpenAPI document
    present.py    jobs, workers and queues as bounded, plain JSON; redact.py: what is hidden of them
    search.py     a bounded slice of a list, as far as it matches
    live.py       what happens second by second
    app.py        the way from a request to a response
    views/        what each route does
    static/       the page
    aiohttp.py    one face: ``create_app`` and ``serve``
    starlette.py  the other: ``saq_web``, an ASGI app

Importing this package needs nothing that is optional; aiohttp is imported by its face alone.
"""
