"""What a version is called and says of itself in MLflow; names made legal there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from headway.define.records import Deployment, VersionRecord
from headway.metadata import live, previous

DIGEST_TAG = "headway.digest"
MODEL_TAG = "headway.model"
PARAM_LIMIT = 6000  # characters of a parameter's value
_NAME_LIMIT = 240

T = TypeVar("T")

_ALIAS = re.compile(r"champion(-.*)?|previous")


def tags(record: VersionRecord, place: Mapping[str, str]) -> dict[str, str]:
    """The tags of a version's run; ``place`` holds those for project and environment."""
    found = {
        **place,
        MODEL_TAG: record.model,
        "headway.version": str(record.version),
        DIGEST_TAG: record.digest,
        "headway.dirty": "true" if record.dirty else "false",
        "headway.data_digest": record.data_digest,
        "headway.environment": record.environment,
        "headway.bundle": record.bundle,
        "headway.seed": str(record.seed),
    }
    if record.commit is not None:
        found["mlflow.source.git.commit"] = record.commit
    return found


def params(record: VersionRecord) -> dict[str, str]:
    """The parameters as text; what is no text or number as JSON."""
    return _unique({name: _text(value) for name, value in record.params.items()})


def metrics(record: VersionRecord) -> dict[str, float]:
    """All figures under one level of names: ``mae``, ``baseline.mae``, ``mae.segment.Manhattan``."""
    found = dict(record.metrics)
    found |= {f"baseline.{metric}": value for metric, value in record.baseline.items()}
    for segment, figures in record.segment_metrics.items():
        found |= {f"{metric}.segment.{segment}": value for metric, value in figures.items()}
    found |= {"rows.train": float(record.train_rows), "rows.test": float(record.test_rows)}
    return _unique(found)


def aliases(log: Sequence[Deployment]) -> dict[str, int]:
    """Which alias names which of our versions: ``champion``, ``previous``, and ``champion-<segment>`` for each segment
    that another version answers for."""
    now = live(log)
    before = previous(log)
    found = {} if before is None else {"previous": before}
    slugs = _slugs(segment for segment in now if segment is not None)
    return found | {"champion" if s is None else f"champion-{slugs[s]}": version for s, version in now.items()}


def is_ours(alias: str) -> bool:
    """Whether an alias is one that the deployment log decides."""
    return _ALIAS.fullmatch(alias) is not None


def _slugs(segments: Iterable[str]) -> dict[str, str]:
    plain = {s: re.sub(r"[^\w]+", "-", s.lower(), flags=re.ASCII).strip("-")[:_NAME_LIMIT] for s in segments}
    taken = list(plain.values())
    return {s: slug if slug and taken.count(slug) == 1 else f"{slug}-{_mark(s)}" for s, slug in plain.items()}


def _unique(named: Mapping[str, T]) -> dict[str, T]:
    legal = {name: re.sub(r"[^\w.\- ]", "_", name, flags=re.ASCII)[:_NAME_LIMIT] for name in named}
    taken = list(legal.values())
    return {(n if taken.count(n) == 1 else f"{n}.{_mark(name)}"): named[name] for name, n in legal.items()}


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=repr).decode()
