"""Events: what an operator or a program may want to hear about the scheduler.

Each event is one Celery signal, sent in the process where it happens, with keyword arguments that are plain values. A receiver that
fails is logged by Celery's dispatcher and never stops the scheduler.
"""

from celery.utils.dispatch import Signal

#: Sent by a process that starts to lead: ``epoch``, ``owner``.
leadership_taken = Signal(name="leadership_taken", providing_args={"epoch", "owner"})
#: Sent by a process that no longer leads: ``epoch``, ``owner``, ``reason``.
leadership_lost = Signal(name="leadership_lost", providing_args={"epoch", "owner", "reason"})
#: Sent for each range of slots that was not fired: ``name``, ``entry_id``, ``from_ms``, ``to_ms``, ``count``, ``reason``.
slots_skipped = Signal(name="slots_skipped", providing_args={"name", "entry_id", "from_ms", "to_ms", "count", "reason"})
#: Sent when an entry is put in quarantine: ``entry_id``, ``reason``.
entry_quarantined = Signal(name="entry_quarantined", providing_args={"entry_id", "reason"})
#: Sent when a fire was refused and will be tried again: ``name``, ``entry_id``, ``slot_ms``, ``reason``.
fire_refused = Signal(name="fire_refused", providing_args={"name", "entry_id", "slot_ms", "reason"})
#: Sent when Redis time stepped forward and dispatch is held until somebody accepts it: ``step_ms``, ``epoch``.
clock_stepped = Signal(name="clock_stepped", providing_args={"step_ms", "epoch"})
#: Sent when a message is buried that the broker would not take: ``claim_id``, ``name``, ``entry_id``, ``reason``.
message_buried = Signal(name="message_buried", providing_args={"claim_id", "name", "entry_id", "reason"})
#: Sent when a long run is started again elsewhere: ``mid``, ``task``, ``task_id``, ``losses``, ``reason``.
run_reassigned = Signal(name="run_reassigned", providing_args={"mid", "task", "task_id", "losses", "reason"})
#: Sent by the leader for a run whose process has been silent for too long: ``mid``, ``task``, ``task_id``, ``silent_ms``.
heartbeat_missed = Signal(name="heartbeat_missed", providing_args={"mid", "task", "task_id", "silent_ms"})
#: Sent by the leader for a run that was lost too often and fails: ``mid``, ``task``, ``task_id``, ``losses``.
run_given_up = Signal(name="run_given_up", providing_args={"mid", "task", "task_id", "losses"})
#: Sent in the worker when a running task has stopped because it was asked to: ``task``, ``task_id``, ``reason``.
task_cancelled = Signal(name="task_cancelled", providing_args={"task", "task_id", "reason"})
#: Sent where a task has become a dead letter: ``letter_id``, ``task``, ``task_id``, ``queue``, ``reason``, ``exception``, ``fingerprint``,
#: ``generation``.
task_dead_lettered = Signal(
    name="task_dead_lettered",
    providing_args={"letter_id", "task", "task_id", "queue", "reason", "exception", "fingerprint", "generation"},
)
#: Sent by the leader before dead letters are dropped, and for what it has dropped, for their bytes: ``count``, ``bytes``, ``reason``.
dead_letters_dropping = Signal(name="dead_letters_dropping", providing_args={"count", "bytes", "reason"})
#: Sent when a run of a DAG has been submitted: ``run_id``, ``dag``.
dag_run_started = Signal(name="dag_run_started", providing_args={"run_id", "dag"})
#: Sent when a node has ended: ``run_id``, ``dag``, ``node``, ``state``, ``attempt``. One that is skipped or blocked ends in silence.
dag_node_ended = Signal(name="dag_node_ended", providing_args={"run_id", "dag", "node", "state", "attempt"})
#: Sent when a run has ended: ``run_id``, ``dag``, ``state``.
dag_run_ended = Signal(name="dag_run_ended", providing_args={"run_id", "dag", "state"})
#: Sent by the leader, once for each task that has waited in a lane for ``tw_starvation_alert``: ``task``, ``task_id``, ``queue``, ``lane``,
#: ``waited_ms``.
task_starving = Signal(name="task_starving", providing_args={"task", "task_id", "queue", "lane", "waited_ms"})
#: Sent by the leader when tasks wait for a fair queue and no worker has said that it consumes it: ``queue``, ``waiting``.
fair_queue_unconsumed = Signal(name="fair_queue_unconsumed", providing_args={"queue", "waiting"})
