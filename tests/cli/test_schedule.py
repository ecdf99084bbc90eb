"""`tw schedule`: every verb on entries, in text and as JSON, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from celery_tw import cron, every, once
from celery_tw.cli.redaction import HIDDEN
from tests.waiting import wait_until


@pytest.fixture
def report(shop):
    return shop.tasks["shop.report"]


@pytest.fixture
def nightly(wheel, report):
    return wheel.schedule("nightly", report.s(42, password="hush"), cron("0 2 * * *", tz="Europe/Berlin"), note="for the boss")


def test_an_added_entry_is_listed_in_words(cli):
    said = cli.done("schedule", "add", "nightly", "shop.report", "--cron", "0 2 * * *", "--tz", "Asia/Tokyo")
    assert said.startswith("nightly: cron 0 2 * * * (Asia/Tokyo), next run 20")
    header, line = cli.done("schedule", "list").splitlines()
    assert header.split() == ["name", "task", "schedule", "next", "run", "last", "run", "runs", "state"]
    assert "shop.report" in line
    assert "cron 0 2 * * * (Asia/Tokyo)" in line
    assert " in " in line
    assert line.endswith("active")


def test_adding_takes_every_option(cli, wheel):
    cli.done(
        *("schedule", "add", "tea", "shop.report", "--every", "30", "--args", '[1, "a"]', "--kwargs", '{"year": 2026}'),
        *("--queue", "slow", "--misfire", "skip", "--overlap", "buffer_one", "--tolerance", "2.5", "--jitter", "1"),
        *("--start", "2040-01-01 00:00"),
        *("--end", "2041-01-01T00:00Z", "--max-runs", "7", "--note", "earl grey", "--tz", "America/New_York"),
    )
    entry = wheel.entry("tea")
    assert entry.schedule["period_ms"] == 30_000
    assert (entry.signature["args"], entry.signature["kwargs"]) == ([1, "a"], {"year": 2026})
    assert entry.signature["options"]["queue"] == "slow"
    assert entry.misfire == {"policy": "skip"} or entry.misfire["policy"] == "skip"
    assert entry.options["overlap"] == "buffer_one"
    assert (entry.options["tolerance_ms"], entry.options["jitter_ms"], entry.options["max_runs"]) == (2500, 1000, 7)
    assert datetime.fromtimestamp(entry.options["start_ms"] / 1000, UTC) == datetime(2040, 1, 1, 5, tzinfo=UTC)
    assert datetime.fromtimestamp(entry.options["end_ms"] / 1000, UTC) == datetime(2041, 1, 1, tzinfo=UTC)
    assert entry.note == "earl grey"


def test_adding_a_name_again_changes_the_entry(cli, wheel):
    cli.done("schedule", "add", "tea", "shop.report", "--every", "30")
    cli.done("schedule", "add", "tea", "shop.report", "--every", "60")
    assert wheel.entry("tea").schedule["period_ms"] == 60_000


def test_a_naive_moment_is_wall_time_in_the_given_zone(cli):
    added = cli.json("schedule", "add", "bell", "shop.report", "--at", "2040-07-01 09:30", "--tz", "America/New_York")
    assert added["entry"]["next_run"] == "2040-07-01T13:30:00+00:00"


def test_a_naive_moment_is_else_wall_time_in_the_zone_of_the_app(cli):
    added = cli.json("schedule", "add", "bell", "shop.report", "--at", "2040-07-01 09:30")
    assert added["entry"]["next_run"] == "2040-07-01T07:30:00+00:00"


def test_a_rule_counts_from_its_start(cli):
    rule = "FREQ=DAILY;INTERVAL=2;COUNT=3"
    shown = cli.json("schedule", "preview", "--rrule", rule, "--start", "2040-01-01T08:00", "--tz", "UTC")
    assert shown["slots"] == ["2040-01-01T08:00:00+00:00", "2040-01-03T08:00:00+00:00", "2040-01-05T08:00:00+00:00"]
    cli.done("schedule", "add", "rule", "shop.report", "--rrule", rule, "--start", "2040-01-01T08:00", "--tz", "UTC")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give one of --cron, --every, --at and --rrule, not none"),
        (("--cron", "* * * * *", "--every", "5"), "not --cron and --every"),
        (("--every", "soon"), "'soon' is not a valid float"),
        (("--at", "tomorrow"), "'tomorrow' is no date and time such as"),
        (("--every", "5", "--args", "{}"), "expected a JSON list"),
        (("--every", "5", "--args", "[1"), "is no JSON"),
        (("--every", "5", "--kwargs", "[]"), "expected a JSON object"),
        (("--every", "5", "--misfire", "later"), "'later' is not one of"),
        (("--every", "5", "--max-runs", "0"), "0 is not in the range"),
    ],
)
def test_wrong_usage_is_refused_with_code_2(cli, wheel, options, said):
    assert said in cli.refused("schedule", "add", "bad", "shop.report", *options, code=2)
    assert wheel.entries().entries == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cron", "0 0 30 2 *"), "30 2"),
        (("--cron", "* * *"), "* * *"),
        (("--cron", "* * * * *", "--tz", "Europe/Berln"), "did you mean 'Europe/Berlin'"),
        (("--at", "2040-01-01", "--tz", "Mars/Base"), "unknown time zone 'Mars/Base'"),
        (("--every", "0.001"), "10 ms"),
        (("--every", "nan"), "nan"),
        (("--every", "inf"), "inf"),
        (("--at", "2001-01-01T00:00Z"), "passed"),
        (("--rrule", "FREQ=DAILY;COUNT=3"), "start"),
        (("--every", "5", "--tolerance", "-1"), "tolerance is a number of seconds"),
        (("--every", "5", "--end", "2001-01-01"), "never fire"),
    ],
)
def test_an_impossible_schedule_is_refused_with_code_1_in_one_line(cli, wheel, options, said):
    error = cli.refused("schedule", "add", "bad", "shop.report", *options)
    assert said in error
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert wheel.entries().entries == []


def test_a_mistyped_task_is_refused_with_the_near_match(cli):
    assert "did you mean 'shop.report'" in cli.refused("schedule", "add", "bad", "shop.raport", "--every", "5", code=2)


def test_a_task_of_other_workers_is_taken_when_one_says_so(cli, wheel):
    cli.done("schedule", "add", "far", "other.task", "--every", "5", "--unregistered")
    assert wheel.entry("far").task == "other.task"


def test_a_name_that_is_too_long_is_refused(cli):
    assert "at most 200 characters" in cli.refused("schedule", "add", "n" * 201, "shop.report", "--every", "5")


def test_a_list_has_a_prefix_and_pages(cli, wheel, report):
    wheel.schedule_many({"name": f"{kind}-{n}", "signature": report.s(), "schedule": every(60)} for n in range(300) for kind in ("a", "b"))
    names, cursor = set(), 0
    while cursor is not None:
        page = cli.json("schedule", "list", "--prefix", "a-", "--limit", "100", "--cursor", str(cursor))
        names |= {entry["name"] for entry in page["entries"]}
        cursor = page["cursor"]
    assert names == {f"a-{n}" for n in range(300)}


def test_a_list_says_when_there_is_more(cli, wheel, report):
    wheel.schedule_many({"name": f"a-{n}", "signature": report.s(), "schedule": every(60)} for n in range(1000))
    result = cli.run("schedule", "list", "--limit", "10")
    assert "There are more: --cursor " in result.stderr


def test_an_empty_list_says_so(cli):
    assert cli.done("schedule", "list") == "No entries.\n"
    assert cli.json("schedule", "list") == {"entries": [], "cursor": None}


def test_show_tells_everything_but_secrets(cli, nightly):
    said = cli.done("schedule", "show", "nightly")
    assert "cron 0 2 * * * (Europe/Berlin)" in said
    assert "for the boss" in said
    assert "[42]" in said
    assert "hush" not in said
    shown = cli.json("schedule", "show", "nightly")["entry"]
    assert shown["signature"]["kwargs"] == {"password": HIDDEN}
    assert "hush" not in cli.done("schedule", "list", "--json")


def test_a_one_time_task_is_shown(cli, wheel, report):
    wheel.schedule("bell", report.s(), once(datetime(2040, 1, 1, tzinfo=UTC)))
    assert "once at 2040-01-01 01:00:00 CET" in cli.done("schedule", "show", "bell")


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "trigger", "history", "preview"])
def test_an_unknown_entry_is_refused(cli, verb):
    assert cli.refused("schedule", verb, "nobody") == "Error: there is no entry named 'nobody'\n"


def test_an_entry_is_paused_with_a_note_and_resumed(cli, wheel, nightly):
    assert cli.done("schedule", "pause", "nightly", "--note", "stocktaking") == "nightly: paused: stocktaking\n"
    assert "paused: stocktaking" in cli.done("schedule", "list")
    assert wheel.entry("nightly").next_run is None
    assert cli.done("schedule", "resume", "nightly").startswith("nightly: active, next run ")
    assert cli.json("schedule", "pause", "nightly")["entries"][0]["paused"] is True


def test_nothing_is_paused_when_one_name_is_unknown(cli, wheel, nightly):
    cli.refused("schedule", "pause", "nightly", "nobody")
    assert not wheel.entry("nightly").paused


def test_removing_asks_with_the_count(cli, wheel, nightly, report):
    wheel.schedule("other", report.s(), every(60))
    refused = cli.run("schedule", "remove", "nightly", "other", typed="n\n")
    assert refused.exit_code == 1
    assert "Remove 2 entries (nightly, other)?" in refused.stderr
    assert len(wheel.entries().entries) == 2
    assert cli.done("schedule", "remove", "nightly", "other", typed="y\n") == "Removed 2 entries (nightly, other).\n"
    assert wheel.entries().entries == []


def test_without_an_answer_nothing_is_removed(cli, wheel, nightly):
    assert cli.run("schedule", "remove", "nightly").exit_code == 1
    assert wheel.entry("nightly")


def test_yes_skips_the_question(cli, nightly):
    assert cli.json("schedule", "remove", "nightly", "--yes") == {"removed": ["nightly"]}


def test_nothing_is_removed_when_one_name_is_unknown(cli, wheel, nightly):
    cli.refused("schedule", "remove", "--yes", "nightly", "nobody")
    assert wheel.entry("nightly")


def test_a_trigger_sends_the_task_now(cli, nightly, redis_client):
    task_id = cli.json("schedule", "trigger", "nightly")["task_id"]
    (message,) = redis_client.lrange("celery", 0, -1)
    assert task_id.encode() in message
    assert cli.done("schedule", "trigger", "nightly").startswith("Sent nightly as task ")


def test_a_preview_of_an_entry_is_in_the_zone_of_the_app_or_another(cli, nightly):
    after = ("-n", "2", "--after", "2026-03-28T12:00")
    assert cli.done("schedule", "preview", "nightly", *after) == "2026-03-29 03:00:00 CEST\n2026-03-30 02:00:00 CEST\n"
    assert cli.done("schedule", "preview", "nightly", *after, "--tz", "UTC") == "2026-03-29 01:00:00 UTC\n2026-03-30 00:00:00 UTC\n"


def test_a_preview_of_a_schedule_needs_no_entry(cli):
    shown = cli.json("schedule", "preview", "--cron", "30 9 * * *", "--tz", "Asia/Tokyo", "-n", "1", "--after", "2026-01-01T00:00")
    assert shown["slots"] == ["2026-01-01T00:30:00+00:00"]
    assert len(cli.done("schedule", "preview", "--every", "30").splitlines()) == 10


def test_a_preview_takes_a_name_or_a_schedule(cli, nightly):
    assert "not both" in cli.refused("schedule", "preview", "nightly", "--every", "5", code=2)
    assert "give one of" in cli.refused("schedule", "preview", code=2)


def test_a_history_without_a_past_says_so(cli, nightly):
    assert cli.done("schedule", "history", "nightly") == "Nothing has been fired or skipped yet.\n"
    assert cli.json("schedule", "history", "nightly") == {"name": "nightly", "slots": []}


def test_a_history_shows_skipped_slots(cli, wheel, report, redis_client):
    wheel.schedule("fast", report.s(), every(0.01))
    cli.done("schedule", "pause", "fast")
    first = wheel.preview("fast", n=1)[0].timestamp()
    wait_until(lambda: redis_client.time()[0] > first, message="the first slot to pass")
    cli.done("schedule", "resume", "fast")
    slots = cli.json("schedule", "history", "fast")["slots"]
    assert {slot["status"] for slot in slots} == {"skipped"}
    assert "skipped" in cli.done("schedule", "history", "fast")


def test_a_backfill_counts_before_it_acts(cli, wheel, nightly):
    span = ("--from", "2026-01-01", "--to", "2026-01-10 12:00")
    said = cli.done("schedule", "backfill", "nightly", *span, "--dry-run")
    assert said == "Would fire 10 slots of nightly, 2026-01-01 02:00:00 CET to 2026-01-10 02:00:00 CET.\n"
    refused = cli.run("schedule", "backfill", "nightly", *span, typed="n\n")
    assert refused.exit_code == 1
    assert "Fire 10 slots of nightly" in refused.stderr
    assert wheel.status().backlogs == {}
    filled = cli.json("schedule", "backfill", "nightly", *span, "--rate", "5", "--yes")
    assert filled["backfill"]["slots"] == 10
    assert sum(wheel.status().backlogs.values()) == 10


def test_a_backfill_without_slots_does_nothing(cli, wheel, nightly):
    said = cli.done("schedule", "backfill", "nightly", "--from", "2026-01-01 03:00", "--to", "2026-01-01 04:00")
    assert said == "There are 0 slots of nightly.\n"
    assert wheel.status().backlogs == {}


def test_a_backfill_of_too_many_slots_is_refused(cli, wheel, report):
    wheel.schedule("fast", report.s(), every(0.01, anchor=datetime(2020, 1, 1, tzinfo=UTC)))
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%MZ}"
    error = cli.refused("schedule", "backfill", "fast", "--from", yesterday, "--to", "2040-01-01", "--yes")
    assert "at most 100,000 slots" in error
