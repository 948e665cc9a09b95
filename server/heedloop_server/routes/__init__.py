"""Thin routes: parse, call, answer. Each module has a `router`."""
