"""What is particular to LMDB: growth, readers that come first, forks, full disks, dead processes."""

import multiprocessing
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from headway.data.online import stamp
from headway.data.online.lmdb import LmdbStore, open_store
from headway.errors import SettingsError, StoreBusy, StoreError, UsageError

PREFIX = bytes(16)
spawned = multiprocessing.get_context("spawn")
forked = multiprocessing.get_context("fork")


def rows(count, as_of=1, size=100):
    return [(PREFIX + i.to_bytes(8, "big"), stamp(as_of, 0) + bytes(size)) for i in range(count)]


def keys(count):
    return [key for key, _ in rows(count)]


class TestUrls:
    def test_absolute_relative_and_quoted(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for url, path in [
            (f"lmdb://{tmp_path}/a", "a"),
            (f"lmdb:{tmp_path}/b", "b"),
            ("lmdb:c/d", "c/d"),
            (f"lmdb://{tmp_path}/with%20space", "with space"),
        ]:
            open_store(url).close()
            assert (tmp_path / path / "data.mdb").exists()

    @pytest.mark.parametrize("url", ["redis://x", "lmdb:", "lmdb://", "online"])
    def test_others_are_refused(self, url):
        with pytest.raises(SettingsError, match="lmdb:///path"):
            open_store(url)


class TestGrowth:
    def test_a_writer_grows_the_map(self, tmp_path):
        store = LmdbStore(tmp_path, map_size=1 << 20)
        assert store.put_many(rows(20_000, size=500)) == 20_000
        assert None not in store.get_many(keys(20_000))
        store.close()

    def test_a_row_larger_than_the_map(self, tmp_path):
        store = LmdbStore(tmp_path, map_size=1 << 16)
        (row,) = rows(1, size=5 << 20)
        store.put_many([row])
        assert store.get_many([row[0]]) == [row[1]]
        store.close()

    def test_readers_in_other_processes_follow(self, tmp_path):
        store = LmdbStore(tmp_path, map_size=1 << 20)
        store.put_many(rows(10))
        writer = spawned.Process(target=write_much, args=(tmp_path,))
        writer.start()
        while writer.is_alive():
            assert None not in store.get_many(keys(10))
        assert writer.exitcode == 0
        assert None not in store.get_many(keys(20_000))
        assert store.put_many(rows(20_000, as_of=3)) == 20_000
        store.close()

    def test_threads_read_while_the_map_grows(self, tmp_path):
        store = LmdbStore(tmp_path, map_size=1 << 17)
        store.put_many(rows(10))
        done = threading.Event()

        def read():
            count = 0
            while not done.is_set():
                assert None not in store.get_many(keys(10))
                count += 1
            return count

        with ThreadPoolExecutor(3) as threads:
            reads = [threads.submit(read) for _ in range(3)]
            for as_of in range(2, 8):
                store.put_many(rows(500 * as_of, as_of=as_of, size=400))
            done.set()
            assert all(each.result() > 0 for each in reads)
        store.close()


def write_much(path):
    store = LmdbStore(path, map_size=1 << 20)
    for step in range(1, 6):
        store.put_many(rows(4000 * step, as_of=2, size=500))
    store.close()


class TestReadOnly:
    def test_it_may_come_before_the_writer(self, tmp_path):
        reader = LmdbStore(tmp_path / "online", readonly=True)
        assert reader.get_many(keys(2)) == [None, None]
        assert reader.prefixes() == []
        assert not (tmp_path / "online").exists()
        writer = spawned.Process(target=write_much, args=(tmp_path / "online",))
        writer.start()
        writer.join()
        assert None not in reader.get_many(keys(20_000))
        assert reader.prefixes() == [PREFIX]
        reader.close()

    def test_a_writer_in_the_same_process(self, tmp_path):
        reader = LmdbStore(tmp_path, readonly=True)
        assert reader.get_many(keys(1)) == [None]
        writer = LmdbStore(tmp_path)
        writer.put_many(rows(1))
        assert reader.get_many(keys(1)) == [rows(1)[0][1]]
        writer.close()
        assert reader.get_many(keys(1)) == [rows(1)[0][1]]
        later = LmdbStore(tmp_path)
        later.put_many(rows(1, as_of=2))
        later.close()
        assert reader.get_many(keys(1)) == [rows(1, as_of=2)[0][1]]
        reader.close()

    def test_it_cannot_write(self, tmp_path):
        reader = LmdbStore(tmp_path, readonly=True)
        for write in (lambda: reader.put_many(rows(1)), lambda: reader.drop(PREFIX)):
            with pytest.raises(UsageError, match="reading only"):
                write()
        reader.close()


class TestProcesses:
    def test_a_child_may_use_what_its_parent_opened(self, tmp_path):
        store = LmdbStore(tmp_path)
        store.put_many(rows(5))
        child = forked.Process(target=read_and_write, args=(store,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert store.get_many(keys(5)) == [value for _, value in rows(5, as_of=2)]
        assert store.put_many(rows(5, as_of=3)) == 5
        store.close()

    def test_a_dead_reader_does_not_keep_old_pages(self, tmp_path):
        store = LmdbStore(tmp_path)
        store.put_many(rows(500, size=1000))
        child = spawned.Process(target=die_reading, args=(tmp_path,))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        for as_of in range(2, 32):
            store.put_many(rows(500, as_of=as_of, size=1000))
        store.close()
        assert (tmp_path / "data.mdb").stat().st_size < 5 << 20  # every version kept would be 15 MB

    def test_slots_of_dead_readers_are_taken_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr("headway.data.online.lmdb._READERS", 2)
        store = LmdbStore(tmp_path)
        store.put_many(rows(5))
        for _ in range(2):
            child = spawned.Process(target=die_reading, args=(tmp_path,))
            child.start()
            child.join()
        assert None not in store.get_many(keys(5))
        store.close()

    def test_too_many_living_readers(self, tmp_path, monkeypatch):
        monkeypatch.setattr("headway.data.online.lmdb._READERS", 2)
        store = LmdbStore(tmp_path)
        store.put_many(rows(5))
        held = [store._environment._env.begin() for _ in range(2)]
        with pytest.raises(StoreBusy, match="2 readers"):
            store.get_many(keys(5))
        held.clear()
        assert None not in store.get_many(keys(5))
        store.close()


def read_and_write(store):
    assert None not in store.get_many(keys(5))
    store.put_many(rows(5, as_of=2))
    store.close()


def die_reading(path):
    store = LmdbStore(path, readonly=True)
    with store._environment._mapping:
        transaction = store._environment._env.begin()
        assert transaction.id()
        os.kill(os.getpid(), signal.SIGKILL)


class TestFailures:
    def test_a_write_that_does_not_fit_says_so_and_leaves_the_store_as_it_was(self, tmp_path):
        store = LmdbStore(tmp_path)
        store.put_many(rows(5))
        store.close()
        receiver, sender = spawned.Pipe(duplex=False)
        child = spawned.Process(target=write_with_little_room, args=(tmp_path, sender))
        child.start()
        message, before = receiver.recv()
        child.join()
        assert str(tmp_path) in message
        assert "could not be written" in message
        assert before == [value for _, value in rows(5)]
        store = LmdbStore(tmp_path)
        assert store.get_many(keys(6)) == [*(value for _, value in rows(5)), None]
        assert store.put_many(rows(5, as_of=2)) == 5
        store.close()

    def test_other_files_are_refused(self, tmp_path):
        (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
        for readonly in (True, False):
            with pytest.raises(StoreError, match="not an online store"):
                LmdbStore(tmp_path, readonly=readonly)

    def test_a_directory_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot be made"):
            LmdbStore(tmp_path / "file" / "online")

    def test_a_closed_store_is_closed(self, tmp_path):
        store = LmdbStore(tmp_path)
        store.close()
        with pytest.raises(UsageError, match="closed"):
            store.get_many([PREFIX])

    def test_short_prefixes_are_refused(self, tmp_path):
        store = LmdbStore(tmp_path)
        with pytest.raises(UsageError, match="16 to 479 bytes"):
            store.drop(b"")
        store.close()


def write_with_little_room(path, report):
    """A limit on file sizes stands for a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    store = LmdbStore(path)
    try:
        store.put_many(rows(5000, as_of=9, size=1000))
    except StoreError as error:
        report.send((str(error), store.get_many(keys(5))))
    store.close()
