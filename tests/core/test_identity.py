"""Fire ids are what RFC 9562 calls version 5, and follow from entry, slot and generation alone; a random id is of version 4."""

from uuid import NAMESPACE_URL, RFC_4122, UUID, uuid5

from celery_tw.core.identity import FireIds, random_id


def test_a_fire_id_is_the_uuid5_of_entry_slot_and_generation() -> None:
    seed = uuid5(NAMESPACE_URL, "celery-tw:shop")

    for entry_id, slot_ms, generation in [(2, 1000, 0), (4, 1_800_000_000_000, 3), *((6, slot_ms, 1) for slot_ms in range(20))]:
        expected = uuid5(seed, f"{entry_id}:{slot_ms}:{generation}")
        assert FireIds("shop").fire_id(entry_id, slot_ms, generation) == str(expected)
        assert UUID(FireIds("shop").fire_id(entry_id, slot_ms, generation)).version == 5


def test_namespaces_entries_slots_and_generations_have_ids_of_their_own() -> None:
    ids = {FireIds(name).fire_id(entry, slot, generation) for name in "ab" for entry in (2, 4) for slot in (1, 2) for generation in (0, 1)}

    assert len(ids) == 16


def test_a_random_id_is_a_uuid4_as_text_and_new_each_time() -> None:
    ids = [random_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert {(str(UUID(each)) == each, UUID(each).version, UUID(each).variant) for each in ids} == {(True, 4, RFC_4122)}
