"""A term: how long its holder may trust it."""

from celery_tw.core.term import Term

WON = Term.won(shard=0, owner="me", epoch=7, attempt_ms=1000, lease_ms=3000)


def test_it_is_trusted_until_a_tenth_of_the_lease_before_its_end_counted_from_before_the_attempt():
    assert WON.trusted_until_ms == 1000 + 3000 - 300
    assert WON.trusted(3699)
    assert not WON.trusted(3700)


def test_a_renewal_moves_the_trust_and_nothing_else():
    renewed = WON.renewed(attempt_ms=2000, lease_ms=3000)

    assert renewed == Term(shard=0, owner="me", epoch=7, trusted_until_ms=4700)
