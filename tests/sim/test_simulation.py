"""The simulation: what hundreds of seeded histories prove of the product, and what is proved of the simulation itself."""

import os
import random
import subprocess
import sys

import fakeredis
import pytest
import redis

from celery_tw.core.lane import LANES
from celery_tw.stores.redis.scripts import script
from tests.sim import workload as w
from tests.sim.faults import ANY_SCHEDULER, ERRORS, CallFault, Fault, LoseReply, Refuse, Stop
from tests.sim.lua import quick_scripts
from tests.sim.mutants import MUTANTS, Mutant, by_name
from tests.sim.oracles import judge
from tests.sim.replay import Replay
from tests.sim.server import KEYS
from tests.sim.shrinking import shrink
from tests.sim.simulation import play
from tests.sim.timeline import Host, Timeline
from tests.sim.trace import Trace, draw
from tests.sim.verdicts import verdicts
from tests.sim.wire import SCRIPTS

SEEDS = 500
REPLAYED = 8
SCHEDULERS_CALLS = (
    "acquire",
    "renew",
    "hset",
    "hgetall",
    "multi",
    "xread",
    "page",
    "poll",
    "hmget",
    "fire",
    "fire_once",
    "drain",
    "resign",
)
ALL_STOP = (Stop(at_ms=7000, host="s0", restart_ms=500), Stop(at_ms=7000, host="s1", restart_ms=500))
DIGEST = "from tests.sim.simulation import play; from tests.sim.trace import draw; print(*(play(draw(seed)).digest() for seed in (7, 10)))"


@pytest.mark.timeout(600)
def test_no_seed_breaks_a_rule() -> None:
    failed = {seed: violations for seed, violations, _ in verdicts(range(SEEDS), jobs=min(4, os.cpu_count() or 1)) if violations}

    assert not failed


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(3822, id="a backlog was drained by a schedule that was not its own"),
        pytest.param(41886, id="a step of the clock was overlooked in the very millisecond of a fire"),
        pytest.param(3882, id="a pause between a renewal and its reply held dispatch"),
    ],
)
def test_a_seed_that_broke_a_rule_once_breaks_none(seed: int) -> None:
    assert judge(play(draw(seed))) == []


@pytest.mark.parametrize("seed", range(10))
def test_without_faults_nothing_is_missed_or_late(seed: int) -> None:
    assert judge(play(draw(seed, faults=False))) == []


def test_a_seed_makes_the_same_history_in_every_process() -> None:
    histories = {
        subprocess.run(
            [sys.executable, "-c", DIGEST], env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True, capture_output=True
        ).stdout
        for hash_seed in ("0", "2")
    }

    assert len(histories) == 1


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_a_fair_queue_misses_nothing_and_is_never_idle(seed: int) -> None:
    outcome = play(draw(seed, faults=False, lanes=True))

    assert judge(outcome) == []
    assert {"enter", "admit", "make_room"} <= set().union(*outcome.labels.values())


@pytest.mark.parametrize(
    ("seed", "focus"),
    [
        pytest.param(16, "", id="a leader that was replaced unawares ended as it measured"),
        pytest.param(6, "enter", id="a message that went straight on was stored by its first call, which came late"),
        pytest.param(36802, "", id="a fault struck when all had been healed"),
        pytest.param(21264, "", id="what waited for a clock that was set back was taken for lost"),
    ],
)
def test_a_fair_seed_that_broke_a_rule_once_breaks_none(seed: int, focus: str) -> None:
    assert judge(play(draw(seed, focus=focus, lanes=True))) == []


@pytest.mark.parametrize("seed", [3, 6, 7])
def test_a_fire_that_arrives_between_the_reading_and_its_repetition_is_not_repeated(seed: int) -> None:
    trace = draw(seed, focus="repeated fire", lanes=False)

    assert judge(play(trace)) == []
    with by_name["no mark check"].planted():
        assert "once" in rules_broken(trace)


def test_a_seed_without_a_fair_queue_is_drawn_as_ever() -> None:
    plain = draw(3822, lanes=False)
    fair = draw(3822, lanes=True)

    assert draw(3822) == plain
    assert set(plain.operations) < set(fair.operations)
    assert (fair.schedulers, fair.lease_ms, plain.work_ms) == (plain.schedulers, plain.lease_ms, None)


def test_a_killed_process_does_not_go_on_when_the_one_in_its_place_has_ended() -> None:
    timeline, killed = Timeline(random.Random(1)), Host("killed")
    done: list[str] = []

    def be_killed() -> None:
        killed.dead = True
        timeline.spawn("successor", Host("successor"), lambda: done.append("successor"))
        timeline.sleep(0)
        done.append("killed")

    timeline.spawn("killed", killed, be_killed)
    timeline.run(1000)

    assert done == ["successor"]


def test_a_script_that_makes_a_global_variable_is_refused_each_time() -> None:
    with quick_scripts():
        client = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
        digest = client.script_load("made = 1")
        for _ in range(2):
            with pytest.raises(redis.ResponseError, match="global variables: made"):
                client.evalsha(digest, 0)

        assert client.eval("return made", 0) is None


def busy_trace(*faults: Fault) -> Trace:
    """Return a short history in which a leader makes each of its calls, and another takes over."""
    operations = (
        w.Put(at_ms=100, client="c0", name="e0", period_ms=700, revision=1),
        w.Put(at_ms=200, client="c0", name="e1", period_ms=1000, revision=2, misfire="catch_up", limit=10, tolerance_ms=200),
        w.PutOnce(at_ms=300, client="c1", name="once0", in_ms=2000, revision=3),
        w.Defer(at_ms=400, client="c1", name="task0", in_ms=3000),
        w.Backfill(at_ms=4000, client="c0", name="e1", back_ms=3000),
        w.PutOnce(at_ms=6000, client="c1", name="once1", in_ms=300, revision=4),
        w.Backfill(at_ms=8000, client="c0", name="e0", back_ms=3000),
    )
    return Trace(seed=1, schedulers=2, lease_ms=1500, operations=operations, faults=faults)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", SCHEDULERS_CALLS)
def test_no_error_of_any_call_of_a_scheduler_costs_a_slot(call: str) -> None:
    answers: list[Fault] = [Refuse(at_ms=2500, host=ANY_SCHEDULER, call=call, error=error, times=2) for error in ERRORS]
    answers += [LoseReply(at_ms=2500, host=ANY_SCHEDULER, call=call, how="reset")]
    answers += [LoseReply(at_ms=2500, host=ANY_SCHEDULER, call=call, how="timeout")]
    outcomes = {str(fault): play(busy_trace(fault, *ALL_STOP)) for fault in answers}

    assert {fault: judge(outcome) for fault, outcome in outcomes.items() if judge(outcome)} == {}
    assert all(any(struck.call == call for _, struck in outcome.strikes if isinstance(struck, CallFault)) for outcome in outcomes.values())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_has_its_place_and_leaves_no_trace(mutant: Mutant) -> None:
    texts = [script(name).text for name in SCRIPTS]
    with mutant.planted():
        pass

    assert [script(name).text for name in SCRIPTS] == texts


@pytest.mark.timeout(300)
@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_found(mutant: Mutant) -> None:
    with mutant.planted():
        assert first_seed_that_finds(mutant) is not None


def busy_fair_trace(*faults: Fault) -> Trace:
    """Return a short history in which messages wait in lanes and are admitted, and another leader takes over."""
    sends = tuple(w.Send(at_ms=2000 + 100 * number, client="c0", name=f"send{number}", lane=LANES[number % 3]) for number in range(40))
    operations = (w.Put(at_ms=100, client="c0", name="e0", period_ms=700, revision=1, lane="low"), *sends)
    return Trace(seed=1, schedulers=2, lease_ms=1500, operations=operations, faults=faults, work_ms=200)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["admit", "make_room", "llen", "zrange"])
def test_no_error_of_any_call_for_a_fair_queue_costs_a_message(call: str) -> None:
    answers: list[Fault] = [Refuse(at_ms=2500, host=ANY_SCHEDULER, call=call, error=error, times=2) for error in ERRORS[::2]]
    answers += [LoseReply(at_ms=2500, host=ANY_SCHEDULER, call=call, how="timeout")]
    outcomes = {str(fault): play(busy_fair_trace(fault, *ALL_STOP)) for fault in answers}

    assert {fault: judge(outcome) for fault, outcome in outcomes.items() if judge(outcome)} == {}
    assert all(any(struck.call == call for _, struck in outcome.strikes if isinstance(struck, CallFault)) for outcome in outcomes.values())


def first_seed_that_finds(mutant: Mutant) -> int | None:
    """Return the first seed whose history breaks a rule that *mutant*, which is planted, may break."""
    seeds = range(mutant.within)
    return next((seed for seed in seeds if rules_broken(draw(seed, focus=mutant.focus, lanes=mutant.lanes)) & mutant.rules), None)


def rules_broken(trace: Trace) -> set[str]:
    """Return the rules that a trace breaks."""
    return {violation.rule for violation in judge(play(trace))}


@pytest.mark.timeout(300)
def test_a_failing_trace_becomes_a_short_one_that_fails_the_same_way() -> None:
    mutant = by_name["insert without nonce"]
    with mutant.planted():
        seed = first_seed_that_finds(mutant)
        assert seed is not None
        short = shrink(draw(seed, focus=mutant.focus, lanes=False), attempts=200)

        assert rules_broken(short) & mutant.rules
    assert rules_broken(short) == set()
    assert len(short.operations) + len(short.faults) <= 4


@pytest.mark.parametrize(
    ("seed", "lanes"), [*((seed, False) for seed in range(REPLAYED)), *((seed, True) for seed in range(REPLAYED, REPLAYED + 4))]
)
def test_a_real_server_answers_as_the_simulated_one(redis_client: redis.Redis, seed: int, lanes: bool) -> None:
    tape = play(draw(seed, lanes=lanes), record=True).tape

    assert tape
    assert [str(difference) for difference in Replay(redis_client, KEYS).differences(tape)] == []
