"""Task bases, and what a worker does for a task that has one."""
