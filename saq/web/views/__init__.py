"""What each route does: a function from a ``Call`` to a ``Response``. Must not know how a request came in."""
