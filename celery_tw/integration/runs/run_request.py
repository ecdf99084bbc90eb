"""Run request: what the worker's main process does for a task with one of our bases.

It has the message, which the process that runs the task has not. So it keeps a long task's message and acknowledges it early; parks what
its child could not start; and when the child is gone, lets the run go on at once, long before its lease would run out.
"""

import logging
import os
import socket
from signal import SIGKILL
from threading import Timer
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.worker import state as worker_state
from celery.worker.request import Request

from celery_tw import events
from celery_tw.errors import CeleryTWError, StoreUnavailable
from celery_tw.integration.runs.guarding import guards_of
from celery_tw.integration.runs.postponed import Postponed
from celery_tw.integration.runs.received import envelope_of, record_rest
from celery_tw.integration.runs.run_headers import mid_of, was_sent_once_more
from celery_tw.integration.runs.runner import runner_of
from celery_tw.stores.redis.runs.guards import Guard
from celery_tw.stores.redis.runs.right import Right

logger = logging.getLogger(__name__)


KILL_AFTER_S = 5.0
"""A process that is told to end because its task has not stopped has so long for its ``finally`` blocks."""

YIELD_DELAY_MS = 500
"""A run that yields waits so long, or the very worker that shuts down might take it once more."""


class RunRequest(Request):
    """A request whose run is on record in Redis."""

    _comes_again = False
    """Whether its run was set free, so that the next copy of the message finds what is left to do."""

    @property
    def mid(self) -> str:
        return mid_of(self._context)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Keep the message of a long task, then let the broker forget it."""
        if self.task.long:
            try:
                once_more = was_sent_once_more(self._context)
                if runner_of(self.app).runs.messages.accept(self.mid, envelope_of(self), once_more=once_more) != "leaderless":
                    self.acknowledge()
            except CeleryTWError as error:
                logger.warning("%s[%s] is acknowledged only at its end: %s", self.name, self.id, error)
        super().on_accepted(pid, time_accepted)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Park what could not start; let go on what has lost its process, or what another has by now."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, TimeLimitExceeded) and self._is_anothers():
            return None
        if isinstance(error, Postponed):
            self._park(error)
        elif self._is_lost(error) and not self._goes_on():
            return self._give_up(exc_info)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _success_was_stored(self) -> Any:
        """Return what Celery makes of a stored success; nothing while the run has not ended, for its chord may not have been told."""
        return False if self._comes_again else super()._success_was_stored()

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """End the run of a task that met its hard time limit, which `on_failure` hears of too, before or after."""
        if not soft and self._is_anothers():
            return
        super().on_timeout(soft, timeout)
        if not soft and not worker_state.should_terminate:
            self._end_run()

    _went_on = False

    def _is_anothers(self) -> bool:
        """Return whether another process has the run, as it may after this worker stood still; then task and message are its own."""
        if not self._went_on and self.worker_pid:
            try:
                owners = [record.owner for record in runner_of(self.app).runs.under_way.read([self.mid])]
            except CeleryTWError as error:
                logger.warning("%s[%s]: whether another process has its run is not known: %s", self.name, self.id, error)
                return False
            self._went_on = any(owner and not owner.startswith(self._owner) for owner in owners)
            if self._went_on:
                logger.warning("%s[%s] met its hard time limit here, but another process has its run by now", self.name, self.id)
                worker_state.task_ready(self)
        return self._went_on

    @property
    def _owner(self) -> str:
        """What the name of the run's owner begins with, if it is the process that the task was given to."""
        return f"{socket.gethostname()}:{self.worker_pid}:"

    def _end_run(self) -> bool:
        self._context._tw_owner = self._owner
        return end_run(self.task, self._context, "failed")

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the process of the task; if it was cancelled and has not stopped, for that reason, and for good."""
        self._overdue = self._cancelled_for()
        super().terminate(pool, signal)
        if self._overdue and self.worker_pid:
            timer = Timer(KILL_AFTER_S, _kill, (pool, self.worker_pid))
            timer.daemon = True
            timer.start()

    _overdue: str | None = None

    def _cancelled_for(self) -> str | None:
        """Return the reason for which the run was asked to stop, or None."""
        try:
            return next((record.cancel for record in runner_of(self.app).runs.under_way.read([self.mid])), None)
        except CeleryTWError as error:
            logger.warning("%s[%s] is ended; whether it was cancelled before is not known: %s", self.name, self.id, error)
            return None

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self._context._tw_owner = self._owner  # ``task.py`` ends the run, and is told of the context alone
        super()._announce_revoked(self._overdue or reason, terminated, signum, expired)

    def _park(self, postponed: Postponed) -> None:
        runner, envelope = runner_of(self.app), envelope_of(self)
        try:
            if postponed.token:
                runner.reassign(Right.of_token(postponed.token), "yielded", self.mid, self.id, envelope, delay_ms=YIELD_DELAY_MS)
                return
            guard = Guard(*postponed.guard) if postponed.guard else None
            rest = record_rest(envelope, fair=runner.settings.fair_queues)
            runner.runs.messages.park(runner.ids, mid=self.mid, task_id=self.id, rest=rest, delay_ms=postponed.delay_ms, guard=guard)
        except StoreUnavailable as error:
            logger.error("%s[%s] could not be parked and goes back to the queue: %s", self.name, self.id, error)
            self.reject(requeue=True)

    def _is_lost(self, error: BaseException) -> bool:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return not (self._already_cancelled or self._already_revoked)
        return isinstance(error, WorkerLostError)

    def _goes_on(self) -> bool:
        """Let another process run the task; return False when it has been lost too often."""
        runner = runner_of(self.app)
        right = Right.of_owner(self._owner)
        try:
            if not (self.task.long and self.acknowledged):
                return self._comes_from_the_broker(right)
            envelope = envelope_of(self)
            verdict, losses = runner.reassign(right, "lost", self.mid, self.id, envelope)
            if verdict == "refused":
                verdict, losses = runner.reassign(Right.of_owner(""), "lost", self.mid, self.id, envelope) if self._unstarted() else ("", 0)
            if verdict == "put":
                logger.warning("%s[%s] lost its process (loss %d) and goes on elsewhere", self.name, self.id, losses)
                events.run_reassigned.send(sender=self, mid=self.mid, task=self.name, task_id=self.id, losses=losses, reason="worker lost")
            return verdict != "enough"
        except StoreUnavailable as error:
            logger.warning("%s[%s] lost its process and is left to its lease: %s", self.name, self.id, error)
            return True

    def _comes_from_the_broker(self, right: Right) -> bool:
        """Set the run free for the broker's copy; end it when there is none, which then fails as any task of Celery does."""
        runner, guards = runner_of(self.app), guards_of(self.task, self.args, self.kwargs)
        if self.acknowledged or not self.task.reject_on_worker_lost:
            runner.runs.finish(right, "failed", mid=self.mid, task_id=self.id, guards=guards)
            return True
        self._comes_again, losses = runner.runs.finish(right, "lost", mid=self.mid, task_id=self.id, guards=guards)
        return losses <= runner.settings.max_reassignments

    def _unstarted(self) -> bool:
        return any(record.state == "accepted" for record in runner_of(self.app).runs.under_way.read([self.mid]))

    def _give_up(self, exc_info: Any) -> None:
        """Fail a task that has lost its process too often, unless another process has begun it by now: then both are its own."""
        worker_state.task_ready(self)
        if not self._end_run():
            logger.warning("%s[%s] has lost its process too often, but another process has its run by now", self.name, self.id)
            return
        error = exc_info.exception if isinstance(exc_info.exception, Exception) else WorkerLostError("its process exited too often")
        error = getattr(error, "exc", error)
        self.task.backend.mark_as_failure(self.id, error, request=self._context, store_result=self.store_errors)
        signals.task_failure.send(
            sender=self.task,
            task_id=self.id,
            exception=error,
            args=self.args,
            kwargs=self.kwargs,
            traceback=exc_info.traceback,
            einfo=exc_info,
        )
        self.acknowledge()
        logger.error("%s[%s] has lost its process too often and fails: %r", self.name, self.id, error)


def _kill(pool: Any, pid: int) -> None:
    """Kill the pool process *pid* if it is still there."""
    processes = getattr(getattr(pool, "_pool", None), "_pool", None) or ()
    if any(process.pid == pid and process.is_alive() for process in processes):
        logger.warning("the process %d does not end and is killed", pid)
        os.kill(pid, SIGKILL)


def end_run(task: Any, request: Any, verb: str) -> bool:
    """End the run of *request*, if it is that of the process to which this one gave the task, or nobody's; return False if it is another's.

    Any other process may have begun it from another copy of the message, in this very moment too: its locks are its own then.
    """
    owner = vars(request).get("_tw_owner")
    right = Right.of_last_owner(owner) if owner else Right.of_bystander()
    mid, guards = mid_of(request), guards_of(task, request.args, request.kwargs)
    try:
        return runner_of(task.app).runs.finish(right, verb, mid=mid, task_id=request.id, guards=guards)[0]
    except CeleryTWError as error:
        logger.warning("%s[%s] ended as %s, which was not put on record: %s", task.name, request.id, verb, error)
        return True
