"""Seen from outside: metrics, traces, and whether a worker is well.

Owns what is measured of a worker and a queue for others' tools, and how these get it. Must not change
anything, and costs nothing until it is asked for: a worker that nobody watches has no observer, a queue that
is not instrumented nothing around its jobs. Importing this package needs nothing that is optional.

    meter.py    what a worker's jobs came to: plain numbers
    monitor.py  a worker at work: its meter, the lag of its event loop, its latest claim
    health.py   what /ready says
    figures.py  the name, kind and meaning of every metric
    metrics.py  Prometheus text of all that (prometheus-client)
    server.py   --metrics-port: a thread that answers even while the event loop is blocked
    tracing.py  spans (opentelemetry-api)
"""
