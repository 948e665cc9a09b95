"""The judge worker: it asks models about stored answers and sends their verdicts as feedback.

templates.py  judges for the usual questions        items.py       what is judged, with its content
backends.py   who is asked                          parsers.py     a judge's prompt, and a model's words as a verdict
journal.py    what was asked and answered, on disk  paid_calls.py  concurrency, retries, budget
worker.py     judging and sending                   proposal.py    other instructions, written by a model
"""
