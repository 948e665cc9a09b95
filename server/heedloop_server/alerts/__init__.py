"""Alerts: rules that watch one number of one segment, the state each is in, and webhooks that are sent its changes.

`rules` and `state` are pure; `evaluate` measures, `webhooks` sends, `scheduler` is the thread that does both on time.
"""
