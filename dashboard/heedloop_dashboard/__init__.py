"""heedloop dashboard: quality pages and review, over the REST API."""
