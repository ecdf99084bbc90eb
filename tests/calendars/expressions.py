"""Expressions: what people write, and what has gone wrong in other schedulers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Expression:
    """A cron expression, a recurrence *rule* that says the same, and whether cronsim judges it as we do.

    A *dense* one is compared near the changes of the clock only, where it can differ.
    """

    cron: str
    rule: str = ""
    cronsim: bool = True
    dense: bool = False


EXPRESSIONS = (
    Expression("0 0 * * *", rule="FREQ=DAILY;BYHOUR=0;BYMINUTE=0"),
    Expression("30 1 * * *", cronsim=False),
    Expression("30 2 * * *", rule="FREQ=DAILY;BYHOUR=2;BYMINUTE=30"),
    Expression("59 23 * * *", cronsim=False),
    Expression("15,45 1-3 * * 0"),
    Expression("0 9-10 * * 1-5", rule="FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,10;BYMINUTE=0"),
    Expression("30 2 L * *", rule="FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=2;BYMINUTE=30"),
    Expression("0 0 1 * *"),
    Expression("30 1 29 2 *", rule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=1;BYMINUTE=30"),
    Expression("0 2 29 2 0"),
    Expression("5 0 31 * *"),
    Expression("0 12 1-7 3,10,11 0"),
    Expression("30 1 * * 0#1"),
    Expression("45 2 * 3,4,9,10,11 L0", cronsim=False),
    Expression("10 0-23/6 * * *", cronsim=False),
    Expression("0 * * * *", dense=True),
    Expression("*/20 0-4 * * *", dense=True),
    Expression("7 */2 * * *", dense=True),
    Expression("*/15 * * * 0", dense=True),
    Expression("* * * * *", cronsim=False, dense=True),
    Expression("0-59 1,2 * * *", dense=True),
)

FEW = (
    Expression("0 0 * * *", cronsim=False),
    Expression("30 2 * * *", cronsim=False),
    Expression("*/20 0-4 * * *", cronsim=False, dense=True),
)
"""For a zone that keeps the same time as one that was compared with all expressions."""
