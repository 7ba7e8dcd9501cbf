"""What is particular to Redis: other people's keys, a server that goes away, hangs, comes back, fills or is set up badly."""

import contextlib
import random
import re
import resource
import signal
import threading
import time

import pytest
from tests.redis_server import any_running

from headway.data.online import Examined, stamp
from headway.data.online.redis import open_store
from headway.errors import SettingsError, StoreBusy, StoreError, UsageError

PREFIX = bytes(16)
KEY = PREFIX + b"k"


def rows(count, as_of=1, size=100):
    return [(PREFIX + i.to_bytes(8, "big"), stamp(as_of, 0) + bytes(size)) for i in range(count)]


def keys(count):
    return [key for key, _ in rows(count)]


def keep_writing(store):
    for as_of in range(1, 40):
        store.put_many(rows(3000, as_of=as_of, size=1000))
        time.sleep(0.01)


@contextlib.contextmanager
def took_under(seconds):
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


@pytest.fixture(scope="module")
def shared():
    with any_running() as server:
        yield server


@pytest.fixture
def server(shared):
    """A server with nothing on it, set up as it was."""
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def own():
    """A server that a test may kill."""
    with any_running("--enable-debug-command", "yes") as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "redis:",
            "redis://host:port",
            "redis://host/name",
            "redis://host:6379/0?colour=red",
            "http://host/",
            "redis://h:70000",
        ],
    )
    def test_what_means_no_server_is_refused(self, url):
        with pytest.raises(SettingsError, match="write it as redis://"):
            open_store(url).put_many([])

    def test_an_unknown_or_closed_port_is_one_sentence_without_the_password(self):
        for host in ("127.0.0.1:1", "no-such-host.invalid:6379"):
            store = open_store(f"redis://user:s3cret@{host}/0")
            with took_under(3), pytest.raises(StoreBusy, match=rf"{host}.* cannot be reached") as raised:
                store.get_many([KEY])
            assert "s3cret" not in str(raised.value)
            assert raised.value.retryable
            store.close()

    def test_a_socket_and_a_database(self, server):
        by_socket = open_store(f"redis+unix://{server.socket}?db=3")
        by_port = open_store(server.url[:-1] + "3", readonly=True)
        elsewhere = open_store(server.url, readonly=True)
        by_socket.put_many(rows(3))
        assert by_port.get_many(keys(3)) == [value for _, value in rows(3)]
        assert elsewhere.prefixes() == []
        for store in (by_socket, by_port, elsewhere):
            store.close()

    def test_a_password_that_is_wrong_or_missing(self, server, client):
        client.config_set("requirepass", "s3cret")
        try:
            for url in (server.url, server.url.replace("//", "//:wr0ng@")):
                with pytest.raises(StoreError, match="refused the user or the password") as raised:
                    open_store(url).get_many([KEY])
                assert "wr0ng" not in str(raised.value)
            store = open_store(server.url.replace("//", "//:s3cret@"))
            assert store.get_many([KEY]) == [None]
            store.close()
        finally:
            client.config_set("requirepass", "")

    def test_a_store_for_reading_takes_no_rows_and_a_closed_one_nothing(self, server):
        store = open_store(server.url, readonly=True)
        for change in (
            lambda: store.put_many(rows(1)),
            lambda: store.drop(PREFIX),
            lambda: store.delete_older(PREFIX, bytes(16)),
        ):
            with pytest.raises(UsageError, match="for reading only"):
                change()
        store.close()
        with pytest.raises(UsageError, match="closed"):
            store.get_many([KEY])


class TestNeighbours:
    def test_namespaces_and_other_keys_are_left_alone(self, server, client):
        client.set("headway", "theirs")
        client.hset("headway:{b:prod}", "theirs", "1")
        ours, theirs = (open_store(server.url, namespace=name) for name in ("a:prod", "a:local"))
        ours.put_many([(KEY, stamp(1, 0) + b"ours")])
        theirs.put_many([(KEY, stamp(1, 0) + b"theirs"), (bytes([1] * 16) + b"k", stamp(1, 0))])
        assert ours.prefixes() == [PREFIX]
        assert theirs.prefixes() == [PREFIX, bytes([1] * 16)]
        assert ours.drop(PREFIX) == 1
        assert theirs.get_many([KEY]) == [stamp(1, 0) + b"theirs"]
        assert theirs.delete_older(PREFIX, stamp(2, 0)) == 1
        assert client.get("headway") == b"theirs"
        assert all(key.startswith(b"headway") for key in client.keys("*"))
        for store in (ours, theirs):
            store.close()

    def test_the_guard_needs_no_more_than_the_rows(self, server, client):
        """Somebody deleted what the store remembers of its views, or an eviction did."""
        store = open_store(server.url)
        store.put_many(rows(600, as_of=5))
        client.delete("headway:{}:views")
        assert store.put_many(rows(600, as_of=4)) == 0
        assert store.put_many(rows(600, as_of=5)) == 600
        assert store.put_many(rows(300, as_of=7)) == 300
        assert store.put_many(rows(600, as_of=6)) == 300
        assert store.prefixes() == [PREFIX]
        client.delete("headway:{}:" + PREFIX.hex())
        assert store.prefixes() == []
        assert store.put_many(rows(2, as_of=1)) == 2
        assert store.put_many(rows(2, as_of=0)) == 0
        store.close()

    def test_what_others_put_under_our_keys_is_not_taken_for_rows(self, server, client):
        client.set("headway:{}:" + PREFIX.hex(), "text")
        with pytest.raises(StoreError, match="holds something else under headway's keys"):
            open_store(server.url).get_many([KEY])

    def test_a_thousand_views_are_one_question(self, server, client):
        store = open_store(server.url)
        asked = [i.to_bytes(16, "big") + b"%d" % j for i in range(200) for j in range(5)]
        store.put_many([(key, stamp(1, 0) + key) for key in asked])
        store.get_many(asked[:1])
        before = client.info("stats")["total_reads_processed"]
        assert store.get_many(asked) == [stamp(1, 0) + key for key in asked]
        assert client.info("stats")["total_reads_processed"] - before <= 4  # ours, and the client's own
        store.close()


class TestAway:
    def test_a_killed_server_is_told_at_once_and_used_again_with_all_its_rows(self, own):
        store = open_store(own.url)
        store.put_many(rows(2000))
        own.stop(signal.SIGKILL)
        for _ in range(3):
            with took_under(1), pytest.raises(StoreBusy, match="cannot be reached"):
                store.get_many(keys(5))
            with took_under(1), pytest.raises(StoreBusy, match="cannot be reached"):
                store.put_many(rows(5))
        own.start()
        assert store.get_many(keys(2000)) == [value for _, value in rows(2000)]
        own.stop()
        own.start()
        assert store.put_many(rows(2000, as_of=2)) == 2000  # the connection is stale, and nobody has to know
        assert store.put_many(rows(2000, as_of=1)) == 0
        store.close()

    def test_a_hanging_server_keeps_nobody_waiting(self, own):
        store = open_store(own.url + "?socket_timeout=0.4")
        store.put_many(rows(5))
        store.get_many(keys(5))
        own.hang()
        try:
            with took_under(1), pytest.raises(StoreBusy, match=r"did not answer within 0\.4 s"):
                store.get_many(keys(5))
            with took_under(0.2):
                for _ in range(20):
                    with pytest.raises(StoreBusy, match="did not answer"):
                        store.get_many(keys(5))
            fresh = open_store(own.url + "?socket_timeout=0.4")
            with took_under(1), pytest.raises(StoreBusy, match="did not answer"):
                fresh.get_many(keys(5))
            fresh.close()
        finally:
            own.go_on()
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(StoreBusy):
                assert store.get_many(keys(5)) == [value for _, value in rows(5)]
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        store.close()

    def test_writers_survive_a_server_that_is_killed_again_and_again(self, own):
        """Every row is there that was reported, and none is older than reported."""
        store, reported, failed = open_store(own.url), [0], []
        done = threading.Event()

        def write():
            moment = 0
            while not done.is_set():
                moment += 1
                try:
                    store.put_many(rows(3000, as_of=moment))
                except StoreError as error:
                    failed.append(error)
                    time.sleep(0.01)
                else:
                    reported[0] = moment

        writer = threading.Thread(target=write)
        writer.start()
        chance = random.Random(5)
        try:
            for round_ in range(5):
                time.sleep(chance.uniform(0.1, 0.4))
                own.stop(signal.SIGKILL)
                if round_ % 2 == 0:  # away long enough for the writer to be told; else it may not notice
                    told, deadline = len(failed), time.monotonic() + 20
                    while len(failed) == told and time.monotonic() < deadline:
                        time.sleep(0.01)
                own.start()
        finally:
            done.set()
            writer.join()
        assert len(failed) >= 3
        assert reported[0]
        found = store.get_many(keys(3000))
        assert min(value[:16] for value in found) >= stamp(reported[0], 0)
        store.close()


class TestFull:
    def test_full_memory(self, server, client):
        store = open_store(server.url)
        client.config_set("maxmemory", "3mb")
        try:
            with pytest.raises(StoreError, match="is full .maxmemory."):
                keep_writing(store)
            assert store.get_many(keys(1)) != [None]
            client.config_set("maxmemory", "0")
            assert store.put_many(rows(3000, as_of=200)) == 3000
        finally:
            client.config_set("maxmemory", "0")
            store.close()

    def test_full_disk(self):
        with any_running() as server:
            with server.client() as client:
                process = client.info("server")["process_id"]
            resource.prlimit(process, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
            store = open_store(server.url)
            with pytest.raises(StoreError, match="cannot write to its disk"):
                keep_writing(store)
            assert store.get_many(keys(1)) != [None]  # reading goes on
            resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(StoreError):
                    assert store.put_many(rows(1000, as_of=50)) == 1000
                    break
                time.sleep(0.1)
            store.close()
            server.stop(signal.SIGKILL)
            server.start()
            again = open_store(server.url)
            assert again.get_many(keys(1000)) == [value for _, value in rows(1000, as_of=50)]
            again.close()

    def test_a_replica_takes_no_rows(self, server, client):
        store = open_store(server.url)
        store.put_many(rows(1))
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(StoreError, match="is a replica"):
                store.put_many(rows(1, as_of=2))
            assert store.get_many(keys(1)) == [rows(1)[0][1]]
        finally:
            client.replicaof("no", "one")
            store.close()


class TestConcerns:
    def test_a_server_that_is_set_up_well_raises_none(self, server):
        store = open_store(server.url, readonly=True)
        assert isinstance(store, Examined)
        assert store.concerns() == []
        store.close()

    @pytest.mark.parametrize(
        ("setting", "value", "found"),
        [
            ("appendonly", "no", "appendonly is off"),
            ("appendfsync", "no", "appendfsync is no"),
            ("maxmemory-policy", "allkeys-lru", "forgets whole views"),
        ],
    )
    def test_what_puts_rows_at_risk_is_said_with_its_mend(self, server, client, setting, value, found):
        before = client.config_get(setting)[setting]
        client.config_set(setting, value)
        try:
            (concern,) = open_store(server.url, readonly=True).concerns()
        finally:
            client.config_set(setting, before)
        assert found in concern.found
        assert re.search(f"set `{setting}", concern.mend)
