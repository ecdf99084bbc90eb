"""Safeguards: what is checked once before a process writes: whose namespace it is, and whether Redis keeps what it is given."""

import logging
from typing import Any

import redis

from celery_tw.errors import ImproperlyConfigured, NamespaceTaken, StoreRefused
from celery_tw.settings import Settings
from celery_tw.stores.redis.election import Election
from celery_tw.stores.redis.scripts import translated_errors

logger = logging.getLogger(__name__)


def check_namespace(app: Any, election: Election, *, schedules: bool = False) -> None:
    """Claim the namespace for this project, or raise `NamespaceTaken` when it is another's.

    A project is known by its app's name and by the packages its tasks come from: another name, or packages that have nothing in common,
    are another project. The packages are compared, and left on record, by a process that *schedules*, which knows all tasks of its
    project; a client may know only some, or those of other people's packages. Packages are only ever added, so that a project may become
    another one bit by bit, and go back.
    """
    mine = project(app)
    owner = election.claim_namespace(mine if schedules else {**mine, "packages": []})
    ours, theirs = set(mine["packages"]), set(owner.get("packages", ()))
    strangers = schedules and ours and theirs and not ours & theirs
    if owner.get("app") != mine["app"] or strangers:
        raise NamespaceTaken(
            f"the namespace {election.keys.namespace!r} in this Redis belongs to the project {owner.get('app')!r} "
            f"(tasks of {', '.join(sorted(theirs)) or 'no package'}), not to {mine['app']!r} ({', '.join(sorted(ours)) or 'no package'}): "
            f"set tw_namespace to a name of its own, or delete the key {election.keys.project} if that project is gone"
        )
    if schedules and not ours <= theirs:
        election.record_owner({**mine, "packages": sorted(ours | theirs)})


def project(app: Any) -> dict[str, Any]:
    """Return what makes *app* recognisable: its name, and the top packages of its tasks."""
    packages = {name.partition(".")[0] for name in app.tasks if not name.startswith(("celery.", "celery_tw."))}
    return {"app": app.main, "packages": sorted(packages)}


def check_eviction(client: redis.Redis, settings: Settings) -> None:
    """Refuse, or warn of, a Redis that may evict keys to make room; say nothing where it does not tell."""
    if settings.redis_eviction_check == "off":
        return
    try:
        with translated_errors("CONFIG GET"):
            config = client.config_get("maxmemory*")
    except StoreRefused:
        logger.debug("this Redis does not tell its maxmemory-policy")
        return
    facts = {as_text(name): as_text(value) for name, value in config.items()}
    policy, limit = facts.get("maxmemory-policy", "noeviction"), int(facts.get("maxmemory", "0"))
    if policy == "noeviction" or limit == 0:
        return
    message = (
        f"this Redis may evict keys (maxmemory-policy {policy}, maxmemory {limit}) and with them schedules and leases: "
        "set maxmemory-policy noeviction, or tw_redis_eviction_check to 'warn' or 'off'"
    )
    if settings.redis_eviction_check == "error":
        raise ImproperlyConfigured(message)
    logger.warning(message)


def as_text(value: Any) -> str:
    """Return a word of a reply as text: which type it comes as depends on the protocol version."""
    return value.decode() if isinstance(value, bytes) else value
