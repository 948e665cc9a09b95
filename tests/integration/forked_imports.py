"""What a server imports as it starts; imported once by the process that `forked_server` forks its servers from."""

import importlib

import uvicorn  # noqa: F401

from heedloop_server.app import ROUTERS

for name in ROUTERS:
    importlib.import_module(f"heedloop_server.routes.{name}")
