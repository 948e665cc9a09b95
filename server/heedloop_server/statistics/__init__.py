"""Statistics of ratings: pure numpy functions, each documented with its source.

Every function returns None (or a record whose value is None) where its answer is undefined: no ratings, no variation,
no overlap between raters. None is never shown as 0. See docs/statistics.md for what each one is for.
"""
