"""The transitions against a reference model, on a real server.

`reference` is what a queue is meant to be; `world` does each transition on the server and in the model and
compares everything there is; `test_machine` draws long sequences, `test_exhaustive` goes through all short
ones.
"""
