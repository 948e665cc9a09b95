"""Long work behind requests: what kinds there are, and who runs them."""
