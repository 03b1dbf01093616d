"""What one asks of a queue from a terminal: a small module a verb.

Owns nothing itself. What the verbs have in common is in `command.py`, how things are said in `words.py`, how
they are drawn in `screen.py`.
"""
