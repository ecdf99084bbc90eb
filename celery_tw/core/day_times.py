"""DayTimes: the times of day at which a rule matches, as three bit masks.

Hours, minutes and seconds are independent in cron and in RFC 5545, so every time of day whose three parts are set matches. Bit *n*
of a mask stands for the value *n*; the least bit set above a place is one shift away, which is what makes the next slot cheap.
"""

from collections.abc import Iterable
from dataclasses import dataclass

HOUR_S = 3600
MINUTE_S = 60


def mask_of(values: Iterable[int]) -> int:
    """Return the bit mask of *values*."""
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


def lowest(mask: int) -> int:
    """Return the least value in a mask that is not empty."""
    return (mask & -mask).bit_length() - 1


def values_of(mask: int) -> list[int]:
    """Return the values of *mask*, ascending."""
    return [value for value in range(mask.bit_length()) if mask >> value & 1]


@dataclass(frozen=True, slots=True)
class DayTimes:
    """The times of day hour:minute:second with each part in its mask; no mask is empty."""

    hours: int
    minutes: int
    seconds: int

    def __len__(self) -> int:
        return self.hours.bit_count() * self.minutes.bit_count() * self.seconds.bit_count()

    def first_from(self, second_of_day: int) -> int:
        """Return the first matching second of the day at or after *second_of_day*, or -1."""
        hour, rest = divmod(second_of_day, HOUR_S)
        if self.hours >> hour & 1:
            minute, second = divmod(rest, MINUTE_S)
            if self.minutes >> minute & 1 and (later := self.seconds >> second):
                return second_of_day + lowest(later)
            if later := self.minutes >> (minute + 1):
                return hour * HOUR_S + (minute + 1 + lowest(later)) * MINUTE_S + lowest(self.seconds)
        if later := self.hours >> (hour + 1):
            return (hour + 1 + lowest(later)) * HOUR_S + lowest(self.minutes) * MINUTE_S + lowest(self.seconds)
        return -1

    def at(self, position: int) -> int:
        """Return the matching second of the day number *position*, counted from 0."""
        rest, second = divmod(position, self.seconds.bit_count())
        hour, minute = divmod(rest, self.minutes.bit_count())
        return values_of(self.hours)[hour] * HOUR_S + values_of(self.minutes)[minute] * MINUTE_S + values_of(self.seconds)[second]
