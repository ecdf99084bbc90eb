"""Hidden settings: our URLs among those whose values ``celery report`` and ``inspect conf`` do not show.

Celery hides by the setting's name, with one pattern for the whole process, in which URLs other than the broker's do not occur.
"""

import re

from celery.app import utils

OURS = "TW_REDIS_URL|TW_DATABASE_URL"


def hide_our_urls() -> None:
    """Let Celery hide the values of our URL settings; doing it twice is doing it once."""
    if not utils.HIDDEN_SETTINGS.search("tw_redis_url"):
        utils.HIDDEN_SETTINGS = re.compile(f"{utils.HIDDEN_SETTINGS.pattern}|{OURS}", utils.HIDDEN_SETTINGS.flags)
