"""What workflows are to people, and what the leader and the workers' processes do for them."""
