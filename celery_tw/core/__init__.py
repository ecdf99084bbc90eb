"""Pure decisions about time: no I/O, no clock, no threads."""
