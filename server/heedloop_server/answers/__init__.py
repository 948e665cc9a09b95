"""What each route takes and answers, as types: the machine-readable description (`/openapi.json`) is made of them.

They describe and do not check: a route builds its JSON itself, and `tests/integration/test_server_schemathesis.py` holds
every answer against its type. `heedloop_server.http.openapi.answers(...)` says which type belongs to which route.
"""
