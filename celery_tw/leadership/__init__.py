"""Who leads a shard.

Any number of schedulers run; one of them leads. The leader holds a lease in Redis and prolongs it each third of its length; the others
stand by and ask four times a second::

    stand-by ── nobody leads, or the leader's counter stands still for a lease ──▶ leader
        ▲                                                                             │
        └──────────── renewal refused, lease no longer trusted, resigned ◀────────────┘

*Authority.* Redis alone says who leads, by an epoch that only grows; each write of a leader carries it and is refused under another.
So a leader that was paused, cut off or replaced can do no harm, whatever it believes, and the lease serves promptness, not safety.

*Silence.* A leader is judged dead when its counter has stood still for a whole lease on the observer's own boot clock. No clock shared
with the silent is asked, so that a stepping server clock neither kills a leader nor keeps a dead one's lease alive.

*What goes wrong, and what then.* Redis away: the leader stops when its trust runs out, everybody goes on trying. Reply of a renewal
lost: the next one finds the term, or finds it over. Process killed: the lease runs out. Process stopped and continued: its first write is
refused and it stands by again. Data rolled back: the epoch is at least Redis's own ms, which is more than any it gave before.
"""
