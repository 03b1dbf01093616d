"""Queues on more than one server, and on ways to a server that are not plain."""
