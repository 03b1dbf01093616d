"""Chaos: real processes, a seeded schedule of faults, and the question whether anything was lost.

    python -m tests.chaos --seed 7 --seconds 60

`run.py` is one run from start to end. `worker.py`, `functions.py` and `producer.py` are the processes,
`nemesis.py` breaks things by the faults of `faults_workers.py`, `faults_server.py` and `faults_network.py`,
`census.py` looks meanwhile, `evidence.py` collects what is left, and `verdict.py` judges.
"""
