"""Runner: takes a task from its message to its body, and from its result to the end of its run.

::

    Task.__call__ ─▶ ACQUIRE ─▶ body ─▶ RAN ─▶ (Celery: chain, callbacks, result) ─▶ task_postrun ─▶ FINISH ─▶ (parent: ack)
                        │         │ (`execution`)                                                   (`ending`)
                        │         └▶ CONCLUDE: the result and the end in one step, where nothing follows ─▶ (parent: ack)
                        ├ done         Ignore: a late copy of a message that is dealt with
                        ├ ran          what is on record: a predecessor died before it had passed it on (see `outcomes`)
                        └ busy, wait   Postponed: the parent, which has the message, parks it in the timetable

One runner a process, made after the fork.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

from celery.exceptions import Ignore, Reject

from celery_tw.clock import RedisTime, SystemClock
from celery_tw.errors import LeaderMissing, LockBusy, StoreUnavailable
from celery_tw.failpoints import failpoint
from celery_tw.integration import broker
from celery_tw.integration.messages.identity_headers import AFTER, REPLAY_OF
from celery_tw.integration.runs.ending import Ending
from celery_tw.integration.runs.execution import Execution
from celery_tw.integration.runs.forerunners import let_end
from celery_tw.integration.runs.mourning import mourn_here
from celery_tw.integration.runs.outcomes import read_outcome
from celery_tw.integration.runs.passing_on import pass_on
from celery_tw.integration.runs.postponed import Postponed
from celery_tw.integration.runs.received import record_rest
from celery_tw.integration.runs.redis_runs import runs_on
from celery_tw.integration.runs.results_at_hand import ResultsAtHand
from celery_tw.integration.runs.revoking import revoke
from celery_tw.integration.runs.run_headers import header_of, mid_of, was_sent_once_more
from celery_tw.integration.runs.saving import Saving
from celery_tw.runtime.heartbeat import Heartbeat
from celery_tw.runtime.lease import Lease
from celery_tw.runtime.run import Run, State
from celery_tw.settings import Settings
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs.claim import Answer, Claim
from celery_tw.stores.redis.runs.right import Right
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.8
ANSWER_PATIENCE_S = 20.0
RETRY_S = 0.2
LOOK_AGAIN_MS = 30_000
SOONEST_MS = 1000

T = TypeVar("T")


class Runner:
    """What one process needs to run the tasks of *app*; connects when first used."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.settings = Settings.read(app.conf, app_name=app.main)
        self.clock = SystemClock()
        client, keys = broker.connect(app, timeout_s=TIMEOUT_S), Keys(self.settings.namespace)
        self.runs = runs_on(app, client, keys, self.settings, RedisTime(self.clock))
        self.letters = DeadLetters(client, keys)
        self.ids = EntryIds(Timetable(client, keys))
        self.process = this_process()
        self.processes = (self.process, f"{socket.gethostname()}:{os.getppid()}")
        self.heartbeat = Heartbeat(
            self.runs,
            clock=self.clock,
            interval_ms=self.settings.heartbeat_interval_ms,
            extend_interval_ms=self.settings.lock_extend_interval_ms,
            processes=self.processes,
        )
        self.ending = Ending(self.runs, reassign=self.reassign)
        self.execution = Execution(self.runs, self.ending, ResultsAtHand(client))
        self.saving = Saving(self.runs.checkpoints, self.settings, clock=self.clock, processes=self.processes)
        self._owner = f"{self.process}:{uuid4().hex[:8]}-"
        self._number = count(1)

    def call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the body of *task* for its present request, or do what is to be done instead."""
        request = task.request
        claim = Claim(
            mid=mid_of(request),
            owner=f"{self._owner}{next(self._number)}",
            task=task.name,
            task_id=request.id,
            guards=task.guarding.guards(args, kwargs),
            long=task.long,
            once_more=was_sent_once_more(request),
        )
        if after := header_of(request, AFTER):
            let_end(self.runs, after)
        if replay_of := header_of(request, REPLAY_OF):
            self._let_die(replay_of)
        asked_ms = self.clock.boot_ms()
        answer = self._answered(partial(self.runs.acquire, claim))
        for passed_over in answer.passed_over:
            logger.warning("%s[%s] passes over %s, which was sent before it and did not start", task.name, request.id, passed_over)
        if answer.verdict not in ("run", "ran"):
            refusal = self._refusal(task, answer)
            if isinstance(refusal, (LockBusy, LeaderMissing)):
                self._fail_unbegun(claim)
            raise refusal
        run = self._begin(claim, answer, asked_ms)
        vars(request).update(tw_run=run, _protected=1)
        self.heartbeat.add(run)
        if answer.verdict == "ran":
            run.move(State.RAN)
            return pass_on(task, run, read_outcome(answer.result))
        if answer.losses > self.settings.max_reassignments:
            run.move(State.FAILED)
            mourn_here(task, run)
            raise Ignore("lost too often")
        self._count_redelivery(request, run)
        failpoint("R1")
        result = self.execution.run(task, run, args, kwargs)
        if run.state is State.DONE:
            self.heartbeat.remove(run)
        return result

    def _fail_unbegun(self, claim: Claim) -> None:
        """End a run that fails before it has begun, or the leader would start it: its message is on record already."""
        right, guards = Right.of_bystander(), claim.guards
        self._answered(lambda: self.runs.finish(right, "failed", mid=claim.mid, task_id=claim.task_id, guards=guards))

    def _let_die(self, mid: str) -> None:
        """Put a replay off while the run that it comes after still lives: it was buried, but its process may not know so yet."""
        if self._answered(partial(self.runs.signs.lives, mid, silent_ms=self.settings.heartbeat_timeout_ms)):
            raise Postponed(SOONEST_MS)

    def _count_redelivery(self, request: Any, run: Run) -> None:
        """Count a body that begins once more, for a message that came back."""
        if self.settings.dlq == "off" or not (request.delivery_info or {}).get("redelivered"):
            return
        try:
            self.letters.count_redelivery(run.mid)
        except StoreUnavailable as error:
            logger.debug("%s[%s] began once more, which was not counted: %s", run.task, run.task_id, error)

    def _answered(self, ask: Callable[[], T]) -> T:
        """Ask until Redis answers; a task for which it does not is given back to the broker."""
        deadline_s = time.monotonic() + ANSWER_PATIENCE_S
        while True:
            try:
                return ask()
            except StoreUnavailable as error:
                if time.monotonic() > deadline_s:
                    raise Reject(str(error), requeue=True) from error
                time.sleep(RETRY_S)

    def _begin(self, claim: Claim, answer: Answer, asked_ms: int) -> Run:
        lease = Lease(answer.token, clock=self.clock, taken_ms=asked_ms, lease_ms=self.settings.lock_timeout_ms)
        return Run(
            mid=claim.mid,
            task_id=claim.task_id,
            task=claim.task,
            token=answer.token,
            lease=lease,
            guards=claim.guards,
            long=claim.long,
            losses=answer.losses,
        )

    def _refusal(self, task: Any, answer: Answer) -> Exception:
        if answer.verdict == "done" or (answer.stored and task.long):
            return Ignore("another copy of this message is dealt with")
        if answer.verdict == "leaderless":
            return LeaderMissing("a long task needs a scheduler that leads, to start it again should its worker die: run beat -S timewheel")
        guard = answer.guard
        if guard is not None and guard.kind == "lock":
            if task.lock_busy == "fail":
                return LockBusy(guard.key)
            if task.lock_busy == "skip":
                revoke(task, f"the lock {guard.key!r} is held by another run")
                return Ignore("skipped, the lock is held")
        wait_ms = max(SOONEST_MS, min(answer.wait_ms + SOONEST_MS, LOOK_AGAIN_MS))
        return Postponed(wait_ms, None if guard is None else (guard.kind, guard.key, guard.argument))

    def end(self, task: Any, run: Run, state: str | None, retval: Any) -> None:
        """Finish a run whose task has come to *state*, as Celery calls it; None when its process was told to exit."""
        failpoint("R4")
        self.heartbeat.remove(run)
        self.ending.end(task, run, state, retval)

    def reassign(self, right: Right, verb: str, mid: str, task_id: str, envelope: bytes, *, delay_ms: int = 0) -> tuple[str, int]:
        """Start a long run again elsewhere."""
        return self.runs.messages.reassign(
            right,
            verb,
            self.ids,
            mid=mid,
            task_id=task_id,
            rest=record_rest(envelope, fair=self.settings.fair_queues),
            most=self.settings.max_reassignments,
            delay_ms=delay_ms,
        )


def this_process() -> str:
    """Return the name of this process, with which the names of the owners of its runs begin."""
    return f"{socket.gethostname()}:{os.getpid()}"


def runner_of(app: Any) -> Runner:
    """Return the runner of *app* in this process, made anew after a fork."""
    pid, runner = vars(app).get("_tw_runner", (0, None))
    if pid != os.getpid():
        runner = Runner(app)
        app._tw_runner = (os.getpid(), runner)
    return runner
