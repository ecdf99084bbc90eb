"""Schedules and one-time tasks of the timetable, as people and programs write and read them."""
