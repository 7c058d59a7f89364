"""The index says what workers have cached: no more after removals, no block without those before it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.kv_events import Cleared, Removed, Stored
from tandem_router.kv_index import SPECULATION_SECONDS, KvIndex
from tandem_router.kv_keys import root_key

ROOT = root_key("m", "")
PROMPT = list(range(100, 120))


def store(index: KvIndex, worker: str, ids: list[int], size: int = 4, **more: object) -> None:
    names = tuple(hash((worker, tuple(ids[: end + size]))) for end in range(0, len(ids) - size + 1, size))
    index.apply(worker, "m", Stored(names, None, tuple(ids), size, **more))  # type: ignore[arg-type]


def match(index: KvIndex, ids: list[int] = PROMPT, salt: str = "", now: float = 0.0) -> dict[str, int]:
    return index.match(ids, ROOT, salt, now)


def test_the_longest_common_prefix_in_full_blocks() -> None:
    index = KvIndex()
    store(index, "a", PROMPT[:10])
    store(index, "b", [*PROMPT[:4], 1, 2, 3, 4])
    store(index, "c", [9, *PROMPT])
    store(index, "d", PROMPT, size=16)
    assert match(index) == {"a": 8, "b": 4, "d": 16}
    index.apply("b", "m", Cleared())
    assert match(index) == {"a": 8, "d": 16}
    index.forget("a")
    index.check_integrity()
    assert match(index) == {"d": 16}


def test_blocks_go_on_from_their_parent_and_orphans_are_left_out() -> None:
    index = KvIndex()
    index.apply("a", "m", Stored((b"1",), None, tuple(PROMPT[:4]), 4))
    index.apply("a", "m", Stored((b"2", b"3"), b"1", tuple(PROMPT[4:12]), 4))
    index.apply("b", "m", Stored((b"9",), b"8", tuple(PROMPT[:4]), 4))
    assert match(index) == {"a": 12}
    index.apply("a", "m", Removed((b"2",)))
    assert match(index) == {"a": 4}


def test_a_block_stays_while_one_medium_has_it() -> None:
    index = KvIndex()
    for medium in ("GPU", "CPU"):
        index.apply("a", "m", Stored((1,), None, tuple(PROMPT[:4]), 4, medium=medium))
    index.apply("a", "m", Removed((1,), "GPU"))
    assert match(index) == {"a": 4}
    index.apply("a", "m", Removed((1,), "CPU"))
    assert match(index) == {}
    index.check_integrity()


def test_salts_adapters_and_models_do_not_mix() -> None:
    index = KvIndex()
    index.apply("a", "m", Stored((1, 2), None, tuple(PROMPT[:8]), 4, extra=(("salt",), ())))
    index.apply("b", "m", Stored((1,), None, tuple(PROMPT[:4]), 4, adapter="lora"))
    index.apply("c", "other", Stored((1,), None, tuple(PROMPT[:4]), 4))
    assert match(index) == {}
    assert match(index, salt="salt") == {"a": 8}
    assert index.match(PROMPT, root_key("m", "lora"), "", 0.0) == {"b": 4}


def test_what_was_just_sent_counts_for_a_moment() -> None:
    index = KvIndex()
    store(index, "a", [1, 2, 3, 4])
    index.expect("a", PROMPT, ROOT, "", now=0.0)
    assert match(index) == {"a": 20}
    index.check_integrity()
    assert match(index, now=SPECULATION_SECONDS) == {}
    index.check_integrity()


def test_the_oldest_blocks_are_forgotten_when_there_are_too_many() -> None:
    index = KvIndex(capacity=6)
    store(index, "a", PROMPT)
    store(index, "b", PROMPT)
    index.apply("a", "m", Stored((b"x",), None, (7, 7, 7, 7), 4))
    assert len(index) <= 6
    index.check_integrity()
    assert match(index, [7] * 4) == {"a": 4}


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["store", "remove", "clear", "expect"]),
        st.lists(st.integers(0, 1), min_size=2, max_size=8),
        st.sampled_from(["GPU", "CPU"]),
    ),
    max_size=30,
)


@given(STEPS, st.lists(st.integers(0, 1), max_size=8))
@settings(max_examples=100)
def test_it_agrees_with_the_engines_own_books(
    steps: list[tuple[str, str, list[int], str]], prompt: list[int]
) -> None:
    index = KvIndex()
    books: dict[str, dict[tuple[int, ...], set[str]]] = {"a": {}, "b": {}}
    for now, (worker, step, ids, medium) in enumerate(steps):
        book = books[worker]
        ends = range(2, len(ids) + 1, 2)
        if step == "store":
            for end in ends:
                block = tuple(ids[:end])
                book.setdefault(block, set()).add(medium)
            names = tuple(hash(tuple(ids[:end])) for end in ends)
            index.apply(worker, "m", Stored(names, None, tuple(ids), 2, medium=medium))
        elif step == "remove" and tuple(ids) in book:
            book[tuple(ids)].discard(medium)
            if not book[tuple(ids)]:
                del book[tuple(ids)]
            index.apply(worker, "m", Removed((hash(tuple(ids)),), medium))
        elif step == "clear":
            book.clear()
            index.apply(worker, "m", Cleared())
        elif step == "expect":
            index.expect(worker, ids, ROOT, "", now=float(now))
        index.check_integrity()
    expected = {}
    for worker, book in books.items():
        depth = 0
        while depth + 2 <= len(prompt) and tuple(prompt[: depth + 2]) in book:
            depth += 2
        if depth:
            expected[worker] = depth
    assert match(index, prompt, now=1e9) == expected
