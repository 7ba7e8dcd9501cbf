"""What every online store must do, as a pytest suite, and a store in memory for tests of what stands on one.

A backend's own test is a subclass that says how to open it::

    class TestMyStore(SharedOnlineStoreContract):
        @pytest.fixture
        def opener(self, tmp_path):
            return functools.partial(open_store, f"mine://{tmp_path}")
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import count
from multiprocessing.connection import Connection

import pytest

from headway.data.online import Counting, OnlineStore, kept_key, stamp, unstamp

A, B = bytes(range(16)), bytes(range(1, 17))
Opener = Callable[[], OnlineStore]

_spawned = multiprocessing.get_context("forkserver")  # as good as new ones, and there at once
_spawned.set_forkserver_preload([__name__])


class MemoryStore:
    """An ``OnlineStore`` that lives and dies with its process."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._rows.get(key) for key in keys]

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> int:
        written = 0
        for key, value in rows:
            with self._lock:
                if self._rows.get(key, b"")[:16] <= value[:16]:
                    self._rows[key] = value
                    written += 1
        return written

    def delete_older(self, prefix: bytes, stamp: bytes) -> int:
        with self._lock:
            gone = [key for key, value in self._rows.items() if key.startswith(prefix) and value[:16] < stamp]
            return len([self._rows.pop(key) for key in gone])

    def drop(self, prefix: bytes) -> int:
        with self._lock:
            gone = [key for key in self._rows if key.startswith(prefix)]
            return len([self._rows.pop(key) for key in gone])

    def prefixes(self) -> list[bytes]:
        with self._lock:
            return sorted({key[:16] for key in self._rows})

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        with self._lock:
            found = [key for key in self._rows if key.startswith(prefix)]
        if found:
            yield found

    longest_key = 0

    def close(self) -> None:
        pass


def value_of(as_of: int, version: int = 0, body: bytes = b"") -> bytes:
    """A value under a stamp, with a digest by which a torn one would show."""
    head = stamp(as_of, version) + body
    return head + blake2b(head, digest_size=8).digest()


def is_whole(value: bytes) -> bool:
    return blake2b(value[:-8], digest_size=8).digest() == value[-8:]


class OnlineStoreContract:
    """What holds within one process. Override ``opener``: a call of it opens the same store, empty at first."""

    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("override the fixture `opener` with a function that opens the store under test")

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[OnlineStore]:
        store = opener()
        yield store
        store.close()

    def test_an_empty_store_has_nothing(self, store: OnlineStore) -> None:
        assert store.get_many([]) == []
        assert store.get_many([A + b"1", A + b"2"]) == [None, None]
        assert store.prefixes() == []
        assert store.put_many([]) == 0
        assert store.delete_older(A, stamp(0, 0)) == 0
        assert store.drop(A) == 0

    def test_answers_come_in_the_order_asked_with_repeats(self, store: OnlineStore) -> None:
        keys = [A + bytes([i]) for i in range(50)]
        assert store.put_many((key, value_of(1, body=key)) for key in keys) == 50
        asked = [keys[7], A + b"unknown", keys[3], keys[7], keys[49]]
        assert store.get_many(asked) == [
            value_of(1, body=keys[7]), None, value_of(1, body=keys[3]), value_of(1, body=keys[7]),
            value_of(1, body=keys[49]),
        ]  # fmt: skip

    def test_values_come_back_as_they_were(self, store: OnlineStore) -> None:
        rows = {
            A + bytes([size % 251]) * (1 + size % 7): value_of(5, body=os.urandom(size)) for size in range(0, 9000, 700)
        }
        store.put_many(rows.items())
        assert store.get_many(list(rows)) == list(rows.values())

    def test_values_of_megabytes_come_back_as_they_were(self, store: OnlineStore) -> None:
        rows = {A + bytes([i]): value_of(5, body=os.urandom(1_500_000)) for i in range(4)}
        rows |= {A + b"small" + bytes([i]): value_of(5, body=bytes([i])) for i in range(9)}
        assert store.put_many(rows.items()) == 13
        assert store.get_many(list(rows)) == list(rows.values())
        newer = {key: value_of(6, body=value[16:-8]) for key, value in rows.items()}
        assert store.put_many(newer.items()) == 13
        assert store.put_many(rows.items()) == 0
        assert store.get_many(list(rows)) == list(newer.values())

    def test_keys_and_prefixes_of_any_bytes(self, store: OnlineStore) -> None:
        tails = [b"", b"*", b"?", b"[a-z]", b"\\", b"\0", b"\r\n", b"$3\r\n", b"{x}", b"\xff\xfe", "é".encode()]
        prefixes = [b"*?[]\\{}\r\n\0\xff 1234", bytes(16), b"\xff" * 16]
        rows = {prefix + tail: value_of(1, body=tail) for prefix in prefixes for tail in tails}
        assert store.put_many(rows.items()) == len(rows)
        assert store.get_many(list(rows)) == list(rows.values())
        assert store.prefixes() == sorted(prefixes)
        for tail in tails[1:]:
            named = [key for key in rows if key.startswith(prefixes[0] + tail)]
            assert sorted(key for some in store.scan(prefixes[0] + tail) for key in some) == sorted(named)
        assert store.drop(prefixes[0] + b"*") == 1
        assert store.delete_older(prefixes[0] + b"[", stamp(2, 0)) == 1
        assert store.drop(prefixes[0]) == len(tails) - 2
        assert store.get_many(list(rows)) == [None] * len(tails) + list(rows.values())[len(tails) :]

    @pytest.mark.parametrize("seed", range(6))
    def test_whatever_happens_it_holds_what_a_dictionary_would(self, store: OnlineStore, seed: int) -> None:
        chance, model = random.Random(seed), MemoryStore()
        keys = [prefix + bytes([i]) * n for prefix in (A, B) for i in range(12) for n in (1, 2)]
        for step in range(40):
            prefix = chance.choice([A, B, A + b"\3", B + b"\5"])
            match chance.choice(["put", "put", "one moment", "one moment", "delete", "drop"]):
                case "put":
                    some = [(key, value_of(chance.randrange(9), chance.randrange(3), b"%d" % step))
                            for key in chance.choices(keys, k=30)]  # fmt: skip
                    assert store.put_many(some) == model.put_many(some)
                case "one moment":
                    value = value_of(chance.randrange(step // 5, 12), 1, b"%d" % step)
                    some = [(key, value) for key in chance.choices(keys, k=20)]
                    assert store.put_many(some) == model.put_many(some)
                case "delete":
                    before = stamp(chance.randrange(9), 1)
                    assert store.delete_older(prefix, before) == model.delete_older(prefix, before)
                case "drop" if step % 3 == 0:
                    assert store.drop(prefix) == model.drop(prefix)
            assert store.get_many(keys) == model.get_many(keys)
            assert store.prefixes() == model.prefixes()

    def test_an_older_row_never_replaces_a_newer_one(self, store: OnlineStore) -> None:
        newer = value_of(20, body=b"newer")
        assert store.put_many([(A + b"k", newer)]) == 1
        assert store.put_many([(A + b"k", value_of(19, version=99, body=b"older"))]) == 0
        assert store.get_many([A + b"k"]) == [newer]

    def test_times_before_1970_are_older(self, store: OnlineStore) -> None:
        store.put_many([(A + b"k", value_of(-5, body=b"before"))])
        assert store.put_many([(A + b"k", value_of(-6))]) == 0
        assert store.put_many([(A + b"k", value_of(5, body=b"after"))]) == 1
        assert store.put_many([(A + b"k", value_of(-4))]) == 0
        assert store.get_many([A + b"k"]) == [value_of(5, body=b"after")]

    def test_an_equal_stamp_replaces(self, store: OnlineStore) -> None:
        store.put_many([(A + b"k", value_of(20, body=b"first"))])
        assert store.put_many([(A + b"k", value_of(20, body=b"corrected"))]) == 1
        assert store.get_many([A + b"k"]) == [value_of(20, body=b"corrected")]

    def test_newer_data_at_the_same_moment_replaces_and_older_does_not(self, store: OnlineStore) -> None:
        store.put_many([(A + b"k", value_of(20, version=2))])
        assert store.put_many([(A + b"k", value_of(20, version=3, body=b"3"))]) == 1
        assert store.put_many([(A + b"k", value_of(20, version=2, body=b"2"))]) == 0
        assert store.get_many([A + b"k"]) == [value_of(20, version=3, body=b"3")]

    def test_order_within_a_batch_does_not_matter(self, store: OnlineStore) -> None:
        moments = list(range(30))
        random.Random(3).shuffle(moments)
        store.put_many([(A + bytes([i]), value_of(moment, body=bytes([i]))) for moment in moments for i in range(5)])
        assert store.get_many([A + bytes([i]) for i in range(5)]) == [value_of(29, body=bytes([i])) for i in range(5)]
        store.put_many([(A + b"tie", value_of(7, body=b"first")), (A + b"tie", value_of(7, body=b"second"))])
        assert store.get_many([A + b"tie"]) == [value_of(7, body=b"second")]

    def test_order_across_batches_does_not_matter(self, store: OnlineStore) -> None:
        for moment in (3, 1, 4, 1, 5, 9, 2, 6):
            store.put_many([(A + b"k", value_of(moment))])
        assert store.get_many([A + b"k"]) == [value_of(9)]

    def test_prefixes_are_apart(self, store: OnlineStore) -> None:
        last = b"\xff" * 16
        store.put_many([(prefix + b"k", value_of(1, body=prefix)) for prefix in (B, last, A)])
        assert store.prefixes() == [A, B, last]
        assert store.drop(A) == 1
        assert store.get_many([A + b"k", B + b"k", last + b"k"]) == [
            None, value_of(1, body=B), value_of(1, body=last),
        ]  # fmt: skip
        assert store.drop(last) == 1
        assert store.prefixes() == [B]

    def test_delete_older_leaves_what_is_as_new(self, store: OnlineStore) -> None:
        store.put_many([(A + b"r" + bytes([i]), value_of(i, version=1)) for i in range(10)])
        store.put_many([(A + b"s", value_of(0)), (B + b"r", value_of(0))])
        assert store.delete_older(A + b"r", stamp(6, 1)) == 6
        kept = store.get_many([A + b"r" + bytes([i]) for i in range(10)])
        assert [value is not None for value in kept] == [False] * 6 + [True] * 4
        assert None not in store.get_many([A + b"s", B + b"r"])
        assert store.delete_older(A + b"r", stamp(6, 1)) == 0

    def test_a_deleted_row_can_be_written_again(self, store: OnlineStore) -> None:
        store.put_many([(A + b"k", value_of(9))])
        store.drop(A)
        assert store.put_many([(A + b"k", value_of(1))]) == 1

    def test_long_keys_are_told_apart(self, store: OnlineStore) -> None:
        keys = [A + b"x" * size for size in range(450, 530)] + [A + b"x" * 5000 + tail for tail in (b"", b"y", b"z")]
        assert store.put_many((key, value_of(1, body=key)) for key in keys) == len(keys)
        assert store.get_many(keys) == [value_of(1, body=key) for key in keys]
        assert store.get_many([A + b"x" * 5000 + b"w"]) == [None]
        assert store.drop(A) == len(keys)
        assert store.get_many(keys) == [None] * len(keys)

    def test_thousands_of_rows(self, store: OnlineStore) -> None:
        rows = [(A + i.to_bytes(4, "big"), value_of(i)) for i in range(20_000)]
        random.Random(1).shuffle(rows)
        assert store.put_many(iter(rows)) == 20_000
        assert store.get_many([key for key, _ in rows[:999]]) == [value for _, value in rows[:999]]
        assert store.delete_older(A, stamp(19_000, 0)) == 19_000
        assert store.drop(A) == 1000

    def test_a_scan_names_every_key_once(self, store: OnlineStore) -> None:
        keys = [A + i.to_bytes(3, "big") for i in range(40_000)] + [A + b"\0" * size for size in (400, 511, 3000)]
        store.put_many((key, value_of(1)) for key in keys)
        store.put_many([(B, value_of(1)), (B + b"\xff", value_of(1))])
        for prefix in (A, A + b"\0", B, B + b"\xff", b"\xff" * 16):
            found = [key for some in store.scan(prefix) for key in some]
            wanted = [kept_key(key, store.longest_key) for key in [*keys, B, B + b"\xff"] if key.startswith(prefix)]
            assert sorted(found) == sorted(wanted)
        for some in store.scan(A):  # while rows come and go
            store.put_many([(A + b"new" + some[-1], value_of(1))])
            store.drop(A)

    def test_rows_are_counted_if_the_store_counts(self, store: OnlineStore) -> None:
        if not isinstance(store, Counting):
            return  # nobody has to
        assert store.count(A) == 0
        rows = [(A + i.to_bytes(4, "big"), value_of(2)) for i in range(20_000)]
        store.put_many([*rows, *((B + i.to_bytes(4, "big"), value_of(2)) for i in range(3))])
        store.put_many(rows[:5])
        assert (store.count(A), store.count(B)) == (20_000, 3)
        store.put_many([(A + b"older", value_of(1))])
        assert store.count(A) == 20_001
        store.delete_older(A, stamp(2, 0))
        assert store.count(A) == 20_000
        store.drop(B)
        assert (store.count(A), store.count(B)) == (20_000, 0)

    def test_threads_may_share_it(self, store: OnlineStore) -> None:
        keys = [A + bytes([i]) for i in range(20)]
        failures: list[str] = []

        def write(seed: int) -> None:
            moments = list(range(25))
            random.Random(seed).shuffle(moments)
            for moment in moments:
                store.put_many([(key, value_of(moment, body=key)) for key in keys])

        def read() -> None:
            seen = [b""] * len(keys)
            while any(writer.is_alive() for writer in writers):
                found = [value or b"" for value in store.get_many(keys)]
                if any(new < old for new, old in zip(found, seen, strict=True)):
                    failures.append("a row became older")
                seen = found

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
        readers = [threading.Thread(target=read) for _ in range(2)]
        for thread in [*writers, *readers]:
            thread.start()
        for thread in [*writers, *readers]:
            thread.join()
        assert not failures
        assert store.get_many(keys) == [value_of(24, body=key) for key in keys]

    def test_a_view_may_be_dropped_while_others_read_and_write(self, store: OnlineStore) -> None:
        gone = [A + i.to_bytes(2, "big") for i in range(500)]
        kept = [B + i.to_bytes(2, "big") for i in range(50)]
        failures: list[str] = []
        done = threading.Event()

        def write() -> None:
            for moment in count():
                store.put_many([(key, value_of(moment, body=key)) for key in kept])
                if done.is_set():
                    return

        def read() -> None:
            seen = [b""] * len(kept)
            while not done.is_set():
                found = store.get_many([*gone, *kept])
                if not all(is_whole(value) for value in found if value is not None):
                    failures.append("a row was torn")
                rest = [value or b"" for value in found[len(gone) :]]
                if any(new < old for new, old in zip(rest, seen, strict=True)):
                    failures.append("a row of another view became older, or went away")
                seen = rest

        threads = [threading.Thread(target=write), *(threading.Thread(target=read) for _ in range(2))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(12):
                assert store.put_many([(key, value_of(1, body=key)) for key in gone]) == len(gone)
                assert store.drop(A) == len(gone)
                assert store.get_many(gone) == [None] * len(gone)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert store.prefixes() == [B]

    def test_what_is_written_anew_meanwhile_is_not_deleted_as_old(self, store: OnlineStore) -> None:
        keys = [A + i.to_bytes(2, "big") for i in range(700)]
        moments = 25
        done = threading.Event()

        def clean() -> None:
            while not done.is_set():
                store.delete_older(A, stamp(moments - 1, 0))

        cleaner = threading.Thread(target=clean)
        cleaner.start()
        try:
            for moment in range(moments):
                store.put_many([(key, value_of(moment, body=key)) for key in keys])
        finally:
            done.set()
            cleaner.join()
        assert store.get_many(keys) == [value_of(moments - 1, body=key) for key in keys]


class SharedOnlineStoreContract(OnlineStoreContract):
    """What holds between processes and over their deaths. What ``opener`` gives must be picklable, too."""

    def test_rows_outlive_the_store_object(self, opener: Opener) -> None:
        store = opener()
        store.put_many([(A + b"k", value_of(1))])
        store.close()
        store.close()
        again = opener()
        assert again.get_many([A + b"k"]) == [value_of(1)]
        again.close()

    def test_the_guard_holds_between_processes(self, opener: Opener, store: OnlineStore) -> None:
        keys = [A + bytes([i]) for i in range(20)]
        writers = [_spawned.Process(target=_write_shuffled, args=(opener, keys, seed)) for seed in range(3)]
        for writer in writers:
            writer.start()
        seen = [b""] * len(keys)
        while any(writer.is_alive() for writer in writers):
            found = [value or b"" for value in store.get_many(keys)]
            assert all(new >= old for new, old in zip(found, seen, strict=True))
            seen = found
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        assert store.get_many(keys) == [value_of(99, body=key) for key in keys]

    def test_a_later_key_is_never_read_older_than_an_earlier_one(self, opener: Opener, store: OnlineStore) -> None:
        writer = _spawned.Process(target=_write_row_then_mark, args=(opener, 200))
        writer.start()
        while writer.is_alive():
            mark, *rows = store.get_many([A + b"mark", B + b"row", A + b"row"])
            assert all((mark or b"") <= (row or b"") for row in rows)
        assert writer.exitcode == 0
        assert store.get_many([A + b"mark", A + b"row"]) == [value_of(199), value_of(199)]

    def test_a_forked_child_may_use_what_its_parent_opened(self, store: OnlineStore) -> None:
        store.put_many([(A + b"k", value_of(1))])
        child = multiprocessing.get_context("fork").Process(target=_read_and_write, args=(store,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads that other packages have started
            child.start()
        child.join()
        assert child.exitcode == 0
        assert store.get_many([A + b"k"]) == [value_of(2)]
        assert store.put_many([(A + b"k", value_of(3))]) == 1

    def test_a_killed_writer_leaves_whole_rows_and_all_it_reported(self, opener: Opener, store: OnlineStore) -> None:
        keys = [A + i.to_bytes(2, "big") for i in range(300)]
        start = 0
        for seed in range(3):
            receiver, sender = _spawned.Pipe(duplex=False)
            writer = _spawned.Process(target=_write_forever, args=(opener, keys, start, sender))
            writer.start()
            sender.close()
            reported = receiver.recv()
            for _ in range(random.Random(seed).randrange(2, 12)):
                reported = receiver.recv()
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
            while receiver.poll():
                try:
                    reported = receiver.recv()
                except EOFError:
                    break
            values = store.get_many(keys)
            assert all(value is not None and is_whole(value) for value in values)
            start = 1 + max(unstamp(value)[0] for value in values if value is not None)
            assert min(unstamp(value)[0] for value in values if value is not None) >= reported
            assert store.put_many((key, value_of(start)) for key in keys) == len(keys)


def _read_and_write(store: OnlineStore) -> None:
    assert store.get_many([A + b"k"]) == [value_of(1)]
    assert store.put_many([(A + b"k", value_of(2))]) == 1
    store.close()


def _write_shuffled(opener: Opener, keys: Sequence[bytes], seed: int) -> None:
    store = opener()
    moments = list(range(100))
    random.Random(seed).shuffle(moments)
    for moment in moments:
        store.put_many([(key, value_of(moment, body=key)) for key in keys])
    store.close()


def _write_row_then_mark(opener: Opener, times: int) -> None:
    store = opener()
    for moment in range(times):
        store.put_many([(A + b"row", value_of(moment)), (B + b"row", value_of(moment))])
        store.put_many([(A + b"mark", value_of(moment))])
    store.close()


def _write_forever(opener: Opener, keys: Sequence[bytes], start: int, reports: Connection) -> None:
    store = opener()
    for moment in count(start):
        store.put_many([(key, value_of(moment, body=key)) for key in keys])
        reports.send(moment)
