"""What is revoked or cancelled does not run, wherever it waits."""
