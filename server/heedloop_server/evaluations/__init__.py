"""Evaluations: two answers to each prompt, compared metric by metric with intervals."""
