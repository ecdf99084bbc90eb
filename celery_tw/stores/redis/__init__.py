"""The timetable, the lease and the news in Redis: one script, one verb."""
