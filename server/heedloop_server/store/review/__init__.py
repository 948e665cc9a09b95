"""Review queues, items, assignments and judgements."""
