"""Review: expert judgement of stored answers. Questions, the work that is left, and the queue service that hands it out and takes it back.

`questions`, `answers`, `judgement`, `queue`, `gold` and `work` are pure; `queue_service` is the one place with state, a lock and the store.
"""
