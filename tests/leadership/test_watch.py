"""How long a counter has stood still."""

from dataclasses import replace

from celery_tw.leadership.watch import Watch
from celery_tw.stores.redis.election import Held

HELD = Held("other", epoch=7, counter=1, lease_left_ms=3000, now_ms=0)


def test_the_first_look_sees_no_silence():
    assert Watch().still_for_ms(HELD, boot_ms=5000) == 0


def test_silence_is_counted_from_the_first_look_at_the_same_counter():
    watch = Watch()
    watch.still_for_ms(HELD, boot_ms=5000)

    assert watch.still_for_ms(replace(HELD, lease_left_ms=1, now_ms=9), boot_ms=5250) == 250
    assert watch.still_for_ms(HELD, boot_ms=5500) == 500


def test_another_counter_or_another_term_begins_anew():
    watch = Watch()
    watch.still_for_ms(HELD, boot_ms=5000)

    assert watch.still_for_ms(replace(HELD, counter=2), boot_ms=6000) == 0
    assert watch.still_for_ms(replace(HELD, counter=2, epoch=8), boot_ms=7000) == 0


def test_a_restart_forgets_the_silence_so_far():
    watch = Watch()
    watch.still_for_ms(HELD, boot_ms=5000)
    watch.restart()

    assert watch.still_for_ms(HELD, boot_ms=9000) == 0
