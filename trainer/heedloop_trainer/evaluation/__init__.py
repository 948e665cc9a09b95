"""Evaluation: held-out rows, intervals, the promotion gate."""
