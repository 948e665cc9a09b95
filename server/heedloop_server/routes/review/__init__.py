"""Routes of the review queues."""
