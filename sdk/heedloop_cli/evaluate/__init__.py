"""Offline evaluation: prompts are answered again, and the answers stored and compared.

sources.py  the prompts, and what was answered before     targets.py  who answers
worker.py   answering, storing, going on after a kill     judging.py  judges on both answers
report.py   the comparison as text, and the gate
"""
