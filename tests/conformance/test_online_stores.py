"""Every online store of headway against the public contract."""

from functools import partial

import pytest

from headway.data.online.lmdb import open_store
from headway.testing.online_store import MemoryStore, OnlineStoreContract, SharedOnlineStoreContract


class TestLmdb(SharedOnlineStoreContract):
    @pytest.fixture
    def opener(self, tmp_path):
        return partial(open_store, f"lmdb://{tmp_path}/online")


class TestMemory(OnlineStoreContract):
    @pytest.fixture
    def opener(self):
        return MemoryStore
