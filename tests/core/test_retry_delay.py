"""How long a node waits before it is tried again."""

import pytest

from celery_tw.core.retry_delay import retry_delay_ms


@pytest.mark.parametrize(
    ("first_ms", "delays_ms"),
    [
        (0, [0, 0, 0]),
        (10_000, [10_000, 20_000, 40_000]),
        (2_000_000, [2_000_000, 3_600_000, 3_600_000]),
        (7_200_000, [7_200_000, 7_200_000, 7_200_000]),
    ],
)
def test_each_failure_doubles_the_delay_up_to_an_hour(first_ms: int, delays_ms: list[int]) -> None:
    assert [retry_delay_ms(first_ms, failures=failures) for failures in (1, 2, 3)] == delays_ms


def test_however_often_a_node_fails_the_delay_stays_an_hour() -> None:
    assert retry_delay_ms(1, failures=1000) == 3_600_000
