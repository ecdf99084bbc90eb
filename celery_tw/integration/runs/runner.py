"""Runner: takes a task from its message to its body, and from its result to the end of its run.

::

    Task.__call__ ─▶ ACQUIRE ─▶ body ─▶ RAN ─▶ (Celery: chain, callbacks, result) ─▶ task_postrun ─▶ FINISH ─▶ (parent: ack)
                        │
                        ├ done         Ignore: a late copy of a message that is dealt with
                        ├ ran          what is on record: a predecessor died before it had passed it on (see `outcomes`)
                        └ busy, wait   Postponed: the parent, which has the message, parks it in the timetable

One runner a process, made after the fork. What a process may not do once it has lost a run is decided by Redis, by the token: a result or a
failure that Redis does not confirm as the run's own is dropped, and the message goes back to the broker, for whoever has the run now.
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

from celery import signals
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError
from celery.states import REVOKED

from celery_tw import events
from celery_tw.clock import RedisTime, SystemClock
from celery_tw.core.node_id import NodeId
from celery_tw.errors import LeaderMissing, LeaseLost, LockBusy, StoreRefused, StoreUnavailable, TaskCancelled, TaskYielded
from celery_tw.failpoints import failpoint
from celery_tw.integration import broker
from celery_tw.integration.messages.identity_headers import AFTER, MID, REPLAY_OF
from celery_tw.integration.runs.forerunners import let_end
from celery_tw.integration.runs.kept_results import ignores_result, stores_errors
from celery_tw.integration.runs.mourning import mourn_here
from celery_tw.integration.runs.outcomes import Retries, Returned, Unshown, read_outcome
from celery_tw.integration.runs.passing_on import pass_on
from celery_tw.integration.runs.received import record_rest
from celery_tw.runtime.checkpoint import Checkpoint
from celery_tw.runtime.heartbeat import Heartbeat
from celery_tw.runtime.late_answers import LateAnswers
from celery_tw.runtime.lease import Lease
from celery_tw.runtime.run import Run, State
from celery_tw.settings import Settings
from celery_tw.stores.redis.dead_letters import DeadLetters
from celery_tw.stores.redis.deferring import EntryIds
from celery_tw.stores.redis.keys import Keys
from celery_tw.stores.redis.runs import Answer, Claim, Guard, Right, Runs
from celery_tw.stores.redis.timetable import Timetable

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.8
ANSWER_PATIENCE_S = 20.0
RETRY_S = 0.2
LOOK_AGAIN_MS = 30_000
SOONEST_MS = 1000
RETURN_DELAY_MS = 2000
"""A long run whose process was told to exit is returned so much later, for its parent may still say that it is to end."""

DEFAULT_VISIBILITY_S = 3600
LEAST_DONE_KEPT_MS = 3_600_000
"""However short its visibility time-out, a broker brings a late copy only when a worker looks for it, each 100 s or when one starts."""

T = TypeVar("T")


class Postponed(Ignore):
    """Tells the parent to park the message: *delay_ms*, the *guard* that it waits for, and the *token* of a run that yields."""

    def __init__(self, delay_ms: int = 0, guard: tuple[str, str, str] | None = None, token: str = "") -> None:
        super().__init__(delay_ms, guard, token)
        self.delay_ms = delay_ms
        self.guard = guard
        self.token = token

    def __repr__(self) -> str:
        return f"postponed for up to {self.delay_ms / 1000:g} s" if not self.token else "yields to go on elsewhere"

    __str__ = __repr__


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
        self.late_answers = LateAnswers(self.runs.own.settle)
        self._owner = f"{self.process}:{uuid4().hex[:8]}-"
        # Celery 5.5.0 takes the same method of two runners for one receiver, unless they have names.
        signals.worker_process_shutdown.connect(self._hear_the_last, dispatch_uid=f"celery_tw.late_answers {self._owner}")
        self._number = count(1)

    # Before the body

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
        )
        let_end(self.runs, header_of(request, AFTER))
        self._let_die(header_of(request, REPLAY_OF))
        asked_ms = self.clock.boot_ms()
        answer = self._answered(partial(self.runs.acquire, claim))
        for passed_over in answer.passed_over:
            logger.warning("%s[%s] passes over %s, which was sent before it and did not start", task.name, request.id, passed_over)
        if answer.verdict not in ("run", "ran"):
            raise self._refusal(task, answer)
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
        return self._conclude(task, run, self._body(task, run, args, kwargs))

    def _let_die(self, mid: str | None) -> None:
        """Put a replay off while the run that it comes after still lives: it was buried, but its process may not know so yet."""
        if mid and self._answered(partial(self.runs.lives, mid, silent_ms=self.settings.heartbeat_timeout_ms)):
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
                self.revoke(task, f"the lock {guard.key!r} is held by another run")
                return Ignore("skipped, the lock is held")
        wait_ms = max(SOONEST_MS, min(answer.wait_ms + SOONEST_MS, LOOK_AGAIN_MS))
        return Postponed(wait_ms, None if guard is None else (guard.kind, guard.key, guard.argument))

    # The body

    def _body(self, task: Any, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return task.tw_attempt(*args, **kwargs)
        except TaskCancelled as cancelled:
            raise self._cancelled(task, run, cancelled) from None
        except TaskYielded:
            run.move(State.YIELDED)
            raise Postponed(token=run.token) from None
        except (Ignore, Reject, Retry):
            if run.state is State.LOST:
                raise self._zombie(run) from None
            raise
        except Exception:
            self._own_or_give_back(run)
            raise

    def _cancelled(self, task: Any, run: Run, cancelled: TaskCancelled) -> Exception:
        self._own_or_give_back(run)
        run.move(State.CANCELLED)
        self.revoke(task, cancelled.reason)
        events.task_cancelled.send(sender=task, task=task.name, task_id=run.task_id, reason=cancelled.reason)
        logger.info("%s[%s] was cancelled: %s", task.name, run.task_id, cancelled.reason)
        return Ignore("cancelled")

    def _own_or_give_back(self, run: Run) -> None:
        """Return when the run is still ours; else drop what has come of it, for its successor's counts."""
        if not self._until_lost(run, partial(self.runs.holds, run.mid, run.token)):
            raise self._zombie(run)

    def _conclude(self, task: Any, run: Run, result: Any) -> Any:
        """Put the result on record, or the end of the run if nothing is left to do with it."""
        failpoint("R2")
        if _nothing_follows(task, run):
            if not self._until_lost(run, lambda: self._finish(run, "done")):
                raise self._zombie(run)
            run.move(State.DONE)
            return result
        outcome = Returned(result).write()
        if outcome is None:
            logger.warning("%s[%s]: its result is no JSON, or too large: on record is only that it ran", task.name, run.task_id)
            outcome = Unshown(type(result).__name__).write()
        if not self._until_lost(run, partial(self.runs.ran, run.mid, run.token, outcome)):
            raise self._zombie(run)
        run.move(State.RAN)
        failpoint("R3")
        return result

    def write_down_retry(self, task: Any, run: Run, retry: Retries) -> bool:
        """Put on record that the body asks for *retry*, which is about to be sent; return False when the run is another's by now."""
        outcome = retry.write()
        if outcome is None:
            logger.warning("%s[%s]: its retry is no JSON, or too large, and was not put on record", task.name, run.task_id)
            return True
        try:
            held = self._until_lost(run, partial(self.runs.ran, run.mid, run.token, outcome))
        except Reject:
            held = False
        if not held:
            run.state = State.LOST
        return held

    def _until_lost(self, run: Run, ask: Callable[[], bool]) -> bool:
        """Ask until Redis answers or the lease is trusted no longer."""
        while True:
            try:
                return ask()
            except StoreUnavailable as error:
                if run.lease.lost:
                    if run.long:
                        return False
                    run.state = State.LOST
                    raise Reject(f"what became of it could not be put on record: {error}", requeue=True) from error
                time.sleep(RETRY_S)

    def _zombie(self, run: Run) -> Reject:
        """Drop what came of a run that is lost, but not its message: it may be the only copy, should nobody have taken the run yet."""
        run.state = State.LOST
        logger.warning("%s[%s] is not this process's any more: what it made of it is dropped", run.task, run.task_id)
        return Reject("lost to another process", requeue=True)

    # After the body

    def end(self, task: Any, run: Run, state: str | None, retval: Any) -> None:
        """Finish a run whose task has come to *state*, as Celery calls it; None when its process was told to exit."""
        failpoint("R4")
        self.heartbeat.remove(run)
        if run.state is State.LOST:
            self._lay_to_rest(run)
        if run.state in (State.DONE, State.LOST, State.YIELDED):
            return
        if state is None and run.long:
            self._return(task, run)
            return
        verb = str(run.state) if run.state in (State.CANCELLED, State.FAILED) else _verb(state, retval)
        if not (verb == "done" and run.state is State.RAN and self._posted(task, run)):
            self._end_or_warn(task, run, verb)
        failpoint("R5")

    def _posted(self, task: Any, run: Run) -> bool:
        """Send the end of a run whose outcome is on record, without waiting for the answer; return False when it could not be sent."""
        undone = partial(self._end_or_warn, task, run, "done")
        right = Right.of_token(run.token)
        try:
            posted = self.runs.post_finish(right, "done", mid=run.mid, task_id=run.task_id, guards=run.guards, undone=undone)
        except StoreUnavailable:
            return False
        if posted:
            self.late_answers.expect()
        return posted

    def _end_or_warn(self, task: Any, run: Run, verb: str) -> None:
        try:
            self._end(task, run, verb)
        except (StoreUnavailable, StoreRefused) as error:
            logger.warning("%s[%s] ended as %s, which was not put on record: %s", run.task, run.task_id, verb, error)

    def _lay_to_rest(self, run: Run) -> None:
        try:
            self.runs.lay_to_rest(run.mid)
        except StoreUnavailable as error:
            logger.debug("%s[%s] has ended, which a replay of it learns later: %s", run.task, run.task_id, error)

    def _end(self, task: Any, run: Run, verb: str) -> None:
        self._finish(run, verb)
        if verb == "retried" and self.runs.cancelled_since(run.task_id, int(run.token)):
            error = TaskRevokedError("cancelled")  # its chord knows; but RETRY was written after what the canceller wrote
            task.backend.store_result(run.task_id, error, REVOKED, request=task.request)

    def _finish(self, run: Run, verb: str) -> bool:
        finish = partial(self.runs.finish, Right.of_token(run.token), verb, mid=run.mid, task_id=run.task_id, guards=run.guards)
        try:
            return finish()[0]
        except StoreUnavailable:
            finish()
            return True  # the first may have been carried out, and then the run is no more

    def _return(self, task: Any, run: Run) -> None:
        """Let a long run whose process exits go on elsewhere."""
        try:
            (record,) = self.runs.read([run.mid]) or (None,)
            if record is None or record.envelope is None or record.token != run.token:
                self._finish(run, "free")
            else:
                self.reassign(Right.of_token(run.token), "yielded", run.mid, run.task_id, record.envelope, delay_ms=RETURN_DELAY_MS)
        except (StoreUnavailable, StoreRefused) as error:
            logger.warning("%s[%s] is left to the scheduler to be started again: %s", task.name, run.task_id, error)

    def _hear_the_last(self, **_: Any) -> None:
        """Read the answers that nobody has waited for, before the process ends; those of the parent's runner are not its own."""
        if self.process == this_process():
            self.runs.own.settle()

    # For the parent as well

    def reassign(self, right: Right, verb: str, mid: str, task_id: str, envelope: bytes, *, delay_ms: int = 0) -> tuple[str, int]:
        """Start a long run again elsewhere."""
        return self.runs.reassign(
            right,
            verb,
            self.ids,
            mid=mid,
            task_id=task_id,
            rest=record_rest(envelope, fair=self.settings.fair_queues),
            most=self.settings.max_reassignments,
            delay_ms=delay_ms,
        )

    def revoke(self, task: Any, reason: str) -> None:
        """Make the result of the present request REVOKED, and tell its chord and whoever listens."""
        request = task.request
        task.backend.mark_as_revoked(request.id, reason, request=request, store_result=stores_errors(self.app, task, request))
        signals.task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=False)

    # For long tasks

    def checkpoint(self, run: Run) -> Checkpoint:
        """Return the checkpoint of *run*."""
        return Checkpoint(
            load=partial(self.runs.load_checkpoint, run.task_id),
            save=partial(self._save, run),
            clear=partial(self.runs.clear_checkpoint, run.mid, run.token, task_id=run.task_id),
            max_bytes=self.settings.checkpoint_max_bytes,
        )

    def _save(self, run: Run, state: bytes) -> None:
        asked_ms = self.clock.boot_ms()
        save = partial(
            self.runs.save_checkpoint,
            run.mid,
            run.token,
            task_id=run.task_id,
            state=state,
            kept_ms=self.settings.checkpoint_expires_ms,
            processes=self.processes,
        )
        try:
            status = save()
        except StoreUnavailable as error:
            run.lease.check()
            logger.warning("%s[%s]: its checkpoint was not saved, the one before stands: %s", run.task, run.task_id, error)
            return
        run.lease.tell(status)
        if status == "lost":
            raise LeaseLost("another process runs this task by now: its checkpoint was not saved")
        run.lease.renew(asked_ms)
        run.lease.check_at_a_boundary()


def runs_on(app: Any, client: Any, keys: Keys, settings: Settings, redis_time: RedisTime) -> Runs:
    """Return the verbs on the runs of *app*."""
    visibility_s = float(app.conf.broker_transport_options.get("visibility_timeout", DEFAULT_VISIBILITY_S))
    return Runs(
        client,
        keys,
        redis_time=redis_time,
        lease_ms=settings.lock_timeout_ms,
        done_kept_ms=settings.run_expires_ms or max(LEAST_DONE_KEPT_MS, round(2000 * visibility_s)),
        grace_ms=settings.leaderless_grace_ms,
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


def header_of(request: Any, name: str) -> Any:
    """Return a header of ours, None when there is none: a worker has it beside the request's own, a message among its headers."""
    return getattr(request, name, None) or (getattr(request, "headers", None) or {}).get(name)


def mid_of(request: Any) -> str:
    """Return the mid of a request; a message from a process without the plug-in has none and is told apart by what Celery says of it."""
    return str(header_of(request, MID) or f"{request.id}:{request.retries or 0}:{getattr(request, 'replaced_task_nesting', 0) or 0}")


def guards_of(task: Any, args: Any, kwargs: Any) -> list[Guard]:
    """Return the guards of a task that did not run; none when its arguments do not fit."""
    try:
        return list(task.guarding.guards(tuple(args or ()), dict(kwargs or {})))
    except TypeError:
        return []


def _nothing_follows(task: Any, run: Run) -> bool:
    """Return whether a result interests nobody: then the end of the body is the end of the run."""
    request = task.request
    if not ignores_result(task.app, task, request) or NodeId.parse(request.id):
        return False
    return not (request.callbacks or request.chain or request.chord or request.group or any(guard.kind == "idem" for guard in run.guards))


def _verb(state: str | None, retval: Any) -> str:
    if state is None or (state == "REJECTED" and getattr(retval, "requeue", False)):
        return "free"
    return {"FAILURE": "failed", "RETRY": "retried", "REJECTED": "failed"}.get(state, "done")
