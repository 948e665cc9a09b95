"""Keys, audit log, erasures, retention, settings, ledger, alerts."""
