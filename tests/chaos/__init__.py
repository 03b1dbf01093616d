"""Chaos: real processes, a seeded schedule of faults, and the question whether anything was lost.

    python -m tests.chaos --seed 7 --seconds 60

`__main__.py` runs it, `nemesis.py` breaks things, `worker.py` and `producer.py` are the processes,
`verdict.py` reads what is left and judges.
"""
