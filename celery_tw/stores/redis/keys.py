"""Every key that celery-tw owns in Redis, with its type, its life and its writer.

All keys of a shard share one hash tag, ``{tw:<namespace>:<shard>}``, so that a script may touch several of them on any server.
Queue keys of the broker are not ours and carry no tag.

==================  ======  ==========  =================================================================================
key                 type    life        holds (written by)
==================  ======  ==========  =================================================================================
``due``             zset    for ever    entry id → due ms; the truth about what comes next (clients, leader)
``entry:<id>``      hash    for ever    ``def`` ``ver`` ``mark`` ``count`` ``fired`` ``paused`` ``pause_note`` ``generation`` ``removed``
``entry:<id>``      string  until fired a one-time task, packed (clients)
``names``           hash    for ever    entry name → id (clients)
``static``          hash    for ever    settings entry name → start ms of the process that wrote it (leader)
``templates``       hash    until swept id → what the one-time tasks of a kind have in common (clients, workers, leader)
``template-dues``   zset    until swept id → the last due ms of a task of that kind; swept 7 days later (clients, workers, leader)
``held``            hash    until freed one-time entry id → due ms while paused (clients)
``by-task``         hash    until fired task id → ids of the one-time tasks that wait under it, with a blank between (clients, leader)
``cancelled``       zset    7 days      task id → ms of its last cancellation (clients, workers)
``answer:<nonce>``  string  1 minute    what a call answered, should it be repeated (clients, workers)
``seen``            string  for ever    when a leader last renewed its lease, in Redis ms (leader)
``tomb:<name>``     string  7 days      what a removal leaves: the entry's id and the remover's start ms (clients, leader)
``fired``           zset    10 minutes  mid → ms of one-time tasks fired soon after they were stored, or published instead (leader, clients)
``history:<id>``    list    trimmed     the last fires: ``slot fired generation`` (leader)
``skips:<id>``      zset    30 days     ranges of slots not fired, as JSON, by their end ms (leader, clients)
``backlogs``        zset    until empty ``<id>:<number>`` → ms of the next attempt (leader, clients)
``backlog:<id>:<n>`` hash   until empty ``from`` ``to`` ``next`` ``left`` ``rate`` ``generation`` (leader, clients)
``outbox``          stream  until sent  claimed messages for another broker: ``entry`` ``delivery`` ``message`` (leader)
``refused``         hash    until sent  id in the outbox → how often the broker has refused the message, and why, as JSON (leader)
``unsure``          hash    until known id in the outbox → an at-most-once message that is being published, as JSON (leader)
``buried``          hash    for ever    id in the outbox → a message that the broker would not take; ``bad`` says why (leader)
``run:<mid>``       hash    7 days      one run, for ever while it holds a message: ``state`` ``token`` ``owner`` … (workers, leader)
``lease:<mid>``     string  300 s       the token of the process that runs it (workers)
``running``         hash    until done  mid → a counter that moves as long as its process lives (workers, leader)
``awaited``         hash    until begun mid of a long run whose message was sent again → ``<times once more> <since ms>`` (workers, leader)
``zombies``         zset    7 days      mid of a run whose process has lost it and runs on → ms when it was last heard (workers)
``token``           string  for ever    the highest fencing token ever given (workers)
``done:<p>:<b>``    set     expires     digests of the mids of finished runs, by period and bucket (workers, leader)
``lock:<key>``      string  300 s       the mid of the run that holds it (workers, leader)
``sem:<key>``       zset    300 s       mid of each run in a slot → ms until which it counts (workers, leader)
``order:<key>``     zset    7 days      mid → its number; the lowest is the head (clients, workers, leader)
``idem:<key>``      hash    1 day       the run under an idempotency key, and its result (workers, leader)
``unique:<key>``    string  expires     the id of the task that waits or runs under it (clients, workers)
``budget:<task>``   string  until full  when the bucket of a task's retries is full again, in ms (workers)
``wait:<kind>:<k>`` zset    1 day       ``<entry id>:<mid>`` of parked tasks, in their turn (workers, leader)
``lanes``           set     until empty the queues that have messages waiting in lanes (clients, workers, leader)
``lane:<q>:<lane>`` zset    until empty id of a one-time task that waits to go on → ms when it came (clients, workers, leader)
``room:<queue>``    string  a lease     how many messages may go straight on to the queue (clients, workers, leader)
``admitted:<q>``    hash    1 hour      ``<minute> <lane>`` → messages that went on to the queue (clients, workers, leader)
``starved``         hash    for ever    queue → ms; who came before has been reported as starving (leader)
``consumers``       hash    for ever    worker → JSON: its queues, concurrency and counter; the silent are struck out (workers, leader)
``terminations``    zset    until done  mid of a cancelled run → ms at which it is ended if it has not stopped (clients, leader)
``open:<name>``     hash    expires     id of a task of an entry's fire that has not ended, or dag:<run id> → state, until when (leader,
                               workers)
``head:<kind>:<k>`` hash    7 days      the head of an order, since when, and whether it has started (workers, leader)
``dlq``             zset    until swept id of a dead letter → ms of its last death (workers, leader, clients)
``dead:<id>``       hash    until swept ``message`` ``facts`` ``first`` ``last`` ``count`` ``size`` ``occasion`` (workers, leader, clients)
``dlq-bytes``       string  for ever    the size of all dead letters together (workers, leader, clients)
``dlq-counts``      hash    for ever    how many were ``buried`` ``requeued`` ``purged`` ``expired`` ``dropped`` (workers, leader, clients)
``requeued:<id>``   string  1 minute    the occasion of a dead letter that was requeued: a late signal of it is no letter (clients)
``redelivered:<m>`` string  7 days      how often a message that came back has been started (workers)
``ckpt:<task id>``  string  7 days      the last checkpoint of a task, as JSON (workers)
``drain:<host:pid>`` string 1 day       a worker that shuts down warmly (workers)
``leader``          hash    lease       ``owner`` ``epoch`` ``counter`` and who that is (leader)
``epoch``           string  for ever    the highest epoch ever given (leader)
``members``         hash    for ever    member id → JSON with its counter; the silent are struck out (all schedulers)
``seq``             string  for ever    the last entry number given (clients)
``news``            stream  1 minute    what changed, numbered without gaps (clients, leader)
``news-seq``        string  for ever    the number of the last news (clients, leader)
``clock``           hash    until freed a held dispatch: when, by how much, by which epoch (leader)
``bad``             hash    for ever    entry id → why it was put in quarantine, as JSON (leader)
``project``         string  for ever    which project owns the namespace, as JSON (first comer)
``schema``          string  for ever    the newest schema version written (clients)
==================  ======  ==========  =================================================================================

Entry ids are numbers. A recurring entry's id is even, a one-time task's is odd: the leader can tell what it holds by the id alone.
"""

from dataclasses import dataclass, field

from celery_tw.core.lane import LANES

CANCELLED_KEPT_MS = 7 * 24 * 3600 * 1000
ANSWER_KEPT_MS = 60 * 1000
TOMBSTONE_MS = 7 * 24 * 3600 * 1000
SKIPS_KEPT_MS = 30 * 24 * 3600 * 1000
FIRED_KEPT_MS = 10 * 60 * 1000
TEMPLATES_KEPT_MS = 7 * 24 * 3600 * 1000
ORDER_KEPT_MS = 7 * 24 * 3600 * 1000
RUN_KEPT_MS = 7 * 24 * 3600 * 1000
WAIT_KEPT_MS = 24 * 3600 * 1000
DRAIN_KEPT_MS = 24 * 3600 * 1000
IDEMPOTENCY_KEPT_MS = 24 * 3600 * 1000
ADMITTED_KEPT_MS = 3600 * 1000
OCCASION_KEPT_MS = 60 * 1000
REDELIVERED_KEPT_MS = 7 * 24 * 3600 * 1000
NEWS_KEPT = 10_000
LONGEST_ID = 18
NEWS_KEPT_MS = 60_000

ONE_TIME_SKIPS = 0
"""The id under which the skips of one-time tasks are kept, because the tasks themselves have left the timetable."""


def is_one_time(entry_id: int) -> bool:
    """Return whether *entry_id* belongs to a one-time task."""
    return entry_id & 1 == 1


def is_entry_id(member: bytes, due_ms: int) -> bool:
    """Return whether *member* of the timetable, due at *due_ms*, can be an entry: anybody may write there, and ids are kept in 64 bits."""
    return member.isdigit() and len(member) <= LONGEST_ID and member[:1] != b"0" and due_ms >= 0


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one shard of one namespace."""

    namespace: str
    shard: int = 0
    tag: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag", f"{{tw:{self.namespace}:{self.shard}}}")

    @property
    def due(self) -> str:
        return f"{self.tag}:due"

    @property
    def names(self) -> str:
        return f"{self.tag}:names"

    @property
    def static(self) -> str:
        return f"{self.tag}:static"

    @property
    def templates(self) -> str:
        return f"{self.tag}:templates"

    @property
    def template_dues(self) -> str:
        return f"{self.tag}:template-dues"

    @property
    def held(self) -> str:
        return f"{self.tag}:held"

    @property
    def by_task(self) -> str:
        return f"{self.tag}:by-task"

    @property
    def cancelled(self) -> str:
        return f"{self.tag}:cancelled"

    @property
    def seen(self) -> str:
        return f"{self.tag}:seen"

    @property
    def fired(self) -> str:
        return f"{self.tag}:fired"

    @property
    def backlogs(self) -> str:
        return f"{self.tag}:backlogs"

    @property
    def outbox(self) -> str:
        return f"{self.tag}:outbox"

    @property
    def refused(self) -> str:
        return f"{self.tag}:refused"

    @property
    def unsure(self) -> str:
        return f"{self.tag}:unsure"

    @property
    def buried(self) -> str:
        return f"{self.tag}:buried"

    @property
    def lanes(self) -> str:
        return f"{self.tag}:lanes"

    @property
    def starved(self) -> str:
        return f"{self.tag}:starved"

    @property
    def consumers(self) -> str:
        return f"{self.tag}:consumers"

    @property
    def leader(self) -> str:
        return f"{self.tag}:leader"

    @property
    def epoch(self) -> str:
        return f"{self.tag}:epoch"

    @property
    def members(self) -> str:
        return f"{self.tag}:members"

    @property
    def seq(self) -> str:
        return f"{self.tag}:seq"

    @property
    def news(self) -> str:
        return f"{self.tag}:news"

    @property
    def news_seq(self) -> str:
        return f"{self.tag}:news-seq"

    @property
    def clock(self) -> str:
        return f"{self.tag}:clock"

    @property
    def bad(self) -> str:
        return f"{self.tag}:bad"

    @property
    def running(self) -> str:
        return f"{self.tag}:running"

    @property
    def awaited(self) -> str:
        return f"{self.tag}:awaited"

    @property
    def zombies(self) -> str:
        return f"{self.tag}:zombies"

    @property
    def token(self) -> str:
        return f"{self.tag}:token"

    @property
    def project(self) -> str:
        return f"{self.tag}:project"

    @property
    def schema(self) -> str:
        return f"{self.tag}:schema"

    def entry(self, entry_id: int) -> str:
        return f"{self.tag}:entry:{entry_id}"

    def history(self, entry_id: int) -> str:
        return f"{self.tag}:history:{entry_id}"

    def skips(self, entry_id: int) -> str:
        return f"{self.tag}:skips:{entry_id}"

    def answer(self, nonce: str) -> str:
        return f"{self.tag}:answer:{nonce}"

    def tombstone(self, name: str) -> str:
        return f"{self.tag}:tomb:{name}"

    def backlog(self, member: str) -> str:
        return f"{self.tag}:backlog:{member}"

    def run(self, mid: str) -> str:
        return f"{self.tag}:run:{mid}"

    def lease(self, mid: str) -> str:
        return f"{self.tag}:lease:{mid}"

    def done(self, period: int, bucket: str) -> str:
        return f"{self.tag}:done:{period}:{bucket}"

    def guard(self, kind: str, key: str) -> str:
        return f"{self.tag}:{kind}:{key}"

    def wait(self, kind: str, key: str) -> str:
        return f"{self.tag}:wait:{kind}:{key}"

    def head(self, kind: str, key: str) -> str:
        return f"{self.tag}:head:{kind}:{key}"

    @property
    def terminations(self) -> str:
        return f"{self.tag}:terminations"

    @property
    def dlq(self) -> str:
        return f"{self.tag}:dlq"

    @property
    def dlq_bytes(self) -> str:
        return f"{self.tag}:dlq-bytes"

    @property
    def dlq_counts(self) -> str:
        return f"{self.tag}:dlq-counts"

    def dead(self, letter_id: str) -> str:
        return f"{self.tag}:dead:{letter_id}"

    def requeued(self, letter_id: str) -> str:
        return f"{self.tag}:requeued:{letter_id}"

    def redelivered(self, mid: str) -> str:
        return f"{self.tag}:redelivered:{mid}"

    def open_fires(self, name: str) -> str:
        return f"{self.tag}:open:{name}"

    def retry_budget(self, task: str) -> str:
        return f"{self.tag}:budget:{task}"

    def checkpoint(self, task_id: str) -> str:
        return f"{self.tag}:ckpt:{task_id}"

    def lane(self, queue: str, lane: str) -> str:
        return f"{self.tag}:lane:{queue}:{lane}"

    def lanes_of(self, queue: str) -> list[str]:
        """Return the keys of the lanes of *queue*, high first."""
        return [self.lane(queue, lane) for lane in LANES]

    def room(self, queue: str) -> str:
        return f"{self.tag}:room:{queue}"

    def admitted(self, queue: str) -> str:
        return f"{self.tag}:admitted:{queue}"

    def drain(self, process: str) -> str:
        return f"{self.tag}:drain:{process}"
