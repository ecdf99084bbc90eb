"""Failpoints: places where a test can make this very process die or stop, so that what happens then is seen and not assumed.

``TW_FAILPOINT=K3:kill`` kills the process with SIGKILL when it first comes to K3, ``K3:stop`` stops it as a debugger does, and
``K3:kill:5`` waits for the fifth time. Without the variable each place costs a comparison.

=====  =============================================================================
K0     before what is due is claimed
K1     after it was claimed
K2     before claimed messages are published
K3     after they were sent to the broker, before it has confirmed them
K4     after the broker has confirmed them, before that is recorded
K5     after it is recorded
R1     before the body of a run
R2     after the body, before its result is on record
R3     after its result is on record, before Celery passes it on
R4     after Celery has passed it on, before the run is finished
R5     after the run is finished, before its message is acknowledged
=====  =============================================================================
"""

import os
import signal
import threading
from itertools import count

_name, _, _rest = os.environ.get("TW_FAILPOINT", "").partition(":")
_what, _, _times = _rest.partition(":")
_passes = count(1)

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def failpoint(name: str) -> None:
    """Do nothing, unless ``TW_FAILPOINT`` names this place."""
    if name == _name and next(_passes) == int(_times or 1):
        signal.pthread_kill(threading.get_ident(), _SIGNALS[_what])  # this thread, so that it does not go on for a moment
