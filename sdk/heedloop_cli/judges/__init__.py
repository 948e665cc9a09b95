"""The judge worker: it asks models about stored answers and sends their verdicts as feedback.

templates.py  judges for the usual questions        items.py     what is judged, with its content
prompts.py    a judge's prompt for an item           parsers.py   a model's words as a verdict
backends.py   who is asked                           journal.py   what was asked and answered, on disk
worker.py     concurrency, retries, budget, sending
"""
