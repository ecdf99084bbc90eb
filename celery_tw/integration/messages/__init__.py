"""What a fire puts into a queue, and how it is made."""
