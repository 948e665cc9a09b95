"""What the review pages have in common: forwarded requests, questions, templates."""
