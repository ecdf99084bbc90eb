"""Random kills over a fleet of workers whose runs are on record, and a judge who asks nobody but the ledger: ``python -m tests.runs``."""
