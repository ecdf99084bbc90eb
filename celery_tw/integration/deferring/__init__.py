"""Tasks with an ETA wait in the timetable, on the way in and on the way out."""
