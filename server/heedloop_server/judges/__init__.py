"""Judges measured by what annotators say: audits, the card, and examples for a better judge."""
