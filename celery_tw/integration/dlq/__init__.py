"""Dead letters: tasks that have failed for good, kept so that they can be read, understood and replayed."""
