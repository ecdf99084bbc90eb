"""The work around the body of a task: who may run it, how long it is trusted, where it goes on, and when it stops.

::

                    ACQUIRE (one script: record, lease, all guards, or nothing)
    message ──▶ run ────────────────────────────────────────────────────────────▶ body
                 │ done before           ▶ dropped                                  │ returns
                 │ a guard says not yet  ▶ parked in the timetable, same mid        ▼
                 │ ran before            ▶ its stored result, without the body    RAN (the result is on record)
                 ▼                                                                  │
              FINISH (one script: final state, guards let go, the next is woken) ◀──┘ chain sent, result stored

A run is one logical send and is named by its mid. Redis holds the truth; what is kept here is one process's view of it, to be trusted
for as long as the lease says. Each write of a run carries its token, and tokens grow: whoever lost the run is refused.

The guards stand one a file: ``lock``, ``concurrency``, ``ordering``, ``idempotency``, ``unique``. Nothing here knows of Celery.
"""
