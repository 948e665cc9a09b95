"""Alerts: rules that watch one number of one segment, the state each is in, and telling somebody.

`rules` and `states` are pure; `evaluate` measures, `webhooks` tells, `caretaker` is the thread that does both on time.
"""
