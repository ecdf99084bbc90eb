"""All that the stores and the scheduler do is allowed to a user with the published rights."""

from tests.scheduler.test_engine import *  # noqa: F403
from tests.scheduler.test_recurring import *  # noqa: F403
from tests.stores.test_dispatching import *  # noqa: F403
from tests.stores.test_timetable import *  # noqa: F403
