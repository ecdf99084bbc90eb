"""The work of the leader: hold the horizon, fire what is due, drain what was missed.

::

    timetable (Redis, the truth)
        │ page, news                          once a second: what is overdue and not in hand
        ▼                                                   │
    horizon ── wheel ── look-ahead ──▶ upcoming ◀───────────┘
                                          │ due
                                          ▼
                        decide (pure) ─▶ FIRE (one script) ─▶ queue, mark, next due
                                          │ missed
                                          ▼
                                       backlog ─▶ DRAIN, at its rate, when nothing live waits

The wheel is an alarm clock. It may ring for an entry that has moved or gone: FIRE compares and refuses, and the entry is read again. It
may fail to ring: the poll of the truth finds the entry within a second. So nothing here has to be remembered to be safe, and a leader
that begins, or that has missed a piece of news, simply starts over with an empty wheel.

`Engine.step` does a bounded piece of all of this and says when it wants to be called again; the threads around it are in ``loops.py``.
"""
