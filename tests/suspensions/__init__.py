"""Every suspension of every coroutine of the client and the worker, and a fault at each.

`stepping.py` counts suspensions, `operations.py` is what is done, `promises.py` what must hold afterwards,
`killing.py` does an operation in a process that kills itself, and `driver.py` goes through all of it.
"""
