"""Publishing: how a message that was claimed into the outbox reaches a broker that is not the timetable's Redis."""
