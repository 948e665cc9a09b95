"""`heedloop demo`: the whole loop on one machine, with a small model made on the spot and simulated users."""
