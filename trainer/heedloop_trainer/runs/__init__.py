"""Run folders, model cards, reports."""
