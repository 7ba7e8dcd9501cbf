"""File digests: the same content is the same, and a change is never overlooked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headway.data.sources import content_digest, format_of, reading_digest, source_digest
from headway.define import Source
from headway.errors import DataError


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def age(cache: Path) -> None:
    """As if the cache had been written ten seconds later."""
    later = cache.stat().st_mtime_ns + 10**10
    os.utime(cache, ns=(later, later))


def test_content_and_order_count_and_names_do_not(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "1"), write(tmp_path / "b", "2")
    cache = tmp_path / "sub/cache.json"
    first = content_digest([a, b], cache)
    assert content_digest([b, a], cache) != first
    assert content_digest([a], cache) != first
    assert content_digest([a, b], cache) == first
    assert content_digest([a.rename(tmp_path / "c"), b], cache) == first
    assert content_digest([write(tmp_path / "c", "3"), b], cache) != first
    assert [path.name for path in cache.parent.iterdir()] == ["cache.json"]


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "a", "old"), tmp_path / "cache.json"
    before = content_digest([path], cache)
    entries = json.loads(cache.read_text())
    entries[str(path)][-1] = "00" * 32
    cache.write_text(json.dumps(entries))
    age(cache)
    assert content_digest([path], cache) != before  # the false entry was believed


@pytest.mark.parametrize("change", ["size", "content", "modified", "inode"])
def test_a_change_is_noticed(tmp_path: Path, change: str) -> None:
    path, cache = write(tmp_path / "a", "old"), tmp_path / "cache.json"
    before = content_digest([path], cache)
    age(cache)
    facts = path.stat()
    if change == "inode":
        write(tmp_path / "b", "new").replace(path)
    else:
        write(path, "newer" if change == "size" else "new")
    if change != "modified":
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert content_digest([path], cache) != before


def test_a_file_that_is_just_being_written_is_not_remembered(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "a", "old"), tmp_path / "cache.json"
    content_digest([path], cache)
    content_digest([write(tmp_path / "other", "x")], cache)
    age(cache)  # the cache has been rewritten since, which must not make the first entry a trusted one
    assert set(json.loads(cache.read_text())) == {str(tmp_path / "other")}


def test_several_sources_share_a_cache(tmp_path: Path) -> None:
    a, b, cache = write(tmp_path / "a", "1"), write(tmp_path / "b", "2"), tmp_path / "cache.json"
    content_digest([a], cache)
    age(cache)
    content_digest([b], cache)
    assert set(json.loads(cache.read_text())) == {str(a), str(b)}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"x": 1}', b'{"%s": [3, 1, 1, 1, "zz"]}', b"\xff\xfe", b'{"x": [1]}']
)
def test_a_damaged_cache_is_as_none(tmp_path: Path, damage: bytes) -> None:
    path, cache = write(tmp_path / "a", "old"), tmp_path / "cache.json"
    before = content_digest([path], cache)
    cache.write_bytes(damage.replace(b"%s", str(path).encode()))
    assert content_digest([path], cache) == before
    assert content_digest([path], cache) == before


def test_where_no_cache_can_be_written_work_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "old")
    in_the_way = write(tmp_path / "file", "")
    assert content_digest([path], in_the_way / "cache.json") == content_digest([path], tmp_path / "cache.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"file .*gone: No such file"):
        content_digest([tmp_path / "gone"], tmp_path / "cache.json")


@pytest.mark.parametrize(
    "other",
    [
        {"timezone": "Europe/Lisbon"},
        {"id": "a"},
        {"id": ("a", "b")},
        {"created": "c"},
        {"delay": "1s"},
        {"deleted": "d"},
        {"timestamp": "ts2"},
        {"format": "ndjson"},
    ],
)
def test_the_way_of_reading_counts(other: dict[str, object]) -> None:
    base: dict[str, object] = {"path": "a.csv", "timestamp": "ts"}
    one, two = Source("s", **base), Source("s", **{**base, **other})  # type: ignore[arg-type]
    assert reading_digest(one, format_of(one), "c") != reading_digest(two, format_of(two), "c")


def test_what_does_not_decide_the_rows_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "v\n1\n")
    digests = {
        source_digest(source, tmp_path, tmp_path / "cache.json")
        for source in (
            Source("s", path="a.csv"),
            Source("t", path="*.csv", timezone="UTC", owner="me", description="mine"),
        )
    }
    assert len(digests) == 1
