"""Setting names: how Celery reads the name of a setting of ours, and what to say of a key that it does not read or that is none of ours."""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

from celery_tw.errors import ImproperlyConfigured

#: Settings of parts that this version does not have. They are refused, so that nobody relies on them.
LATER = ("tw_history_max_bytes",)


class Configuration(Protocol):
    """What is asked of ``app.conf``: a value by name, and the names."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def __iter__(self) -> Iterator[str]: ...


def refuse_unusable_keys(conf: Configuration, *, known: Collection[str]) -> None:
    """Raise for the first key that looks like a setting of ours and cannot be honoured."""
    prefix = str(getattr(conf, "prefix", None) or "")
    for written in sorted({str(key) for key in conf}):
        name = _bare(written, prefix=prefix)
        if name == "tw" and isinstance(conf.get(written), Mapping):
            raise ImproperlyConfigured(f"{written}: expected one setting for each value, such as tw_leader_lease, got a dictionary")
        if not name.startswith("tw_"):
            continue
        if written in (name, _as_read(name, prefix=prefix)):
            _refuse_unknown(name, written=written, known=known)
        elif _is_meant(name, written=written, known=known):
            raise ImproperlyConfigured(
                f"{written} is not read under that name: expected {_as_read(name, prefix=prefix)}"
                f"{'' if prefix else ', or CELERY_' + name.upper() + ' with config_from_object(…, namespace=' + repr('CELERY') + ')'}"
            )


def _bare(written: str, *, prefix: str) -> str:
    """Return the name without a namespace and in lower case: ``CELERY_TW_SHARDS`` is ``tw_shards``."""
    return written.lower().removeprefix(prefix.lower()).removeprefix("celery_")


def _as_read(name: str, *, prefix: str) -> str:
    """Return how Celery reads *name* from a settings object with that prefix, in the case of the prefix."""
    return prefix + (name.upper() if prefix.isupper() else name)


def _refuse_unknown(name: str, *, written: str, known: Collection[str]) -> None:
    if name in known:
        return
    if name in LATER:
        raise ImproperlyConfigured(f"{written} is not available in this version of celery-tw: remove it")
    raise ImproperlyConfigured(f"{written} is not a setting of celery-tw{_did_you_mean(name, known)}")


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else f": expected one of {', '.join(known)}"


def _is_meant(name: str, *, written: str, known: Collection[str]) -> bool:
    """Return whether a key in a spelling that is not read is meant for us: ``TW_TOKEN`` may be another package's."""
    return "celery" in written.lower() or bool(get_close_matches(name, (*known, *LATER), n=1, cutoff=0.85))
