"""What the feature server reads by name: views and sets as they were bound when they were last put online.

The server imports no project and opens no lake, so what a name stands for is written down here, whole: a view's plan, a
set's uses of views. It changes when the new values are online, not when a declaration is edited.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from headway.define.records import ViewPlan, ViewUse
from headway.errors import StoreError
from headway.metadata._stages import StageResult, Stages

Kind = Literal["view", "set"]
_KINDS: tuple[Kind, ...] = ("view", "set")
_GONE = ""  # the digest of a name that stands for nothing any more


class PublishedFeatures(NamedTuple):
    """Views and sets by name."""

    views: Mapping[str, ViewPlan]
    sets: Mapping[str, tuple[ViewUse, ...]]

    @property
    def plans(self) -> tuple[ViewPlan, ...]:
        """Every plan that some name stands for, or is made of."""
        return (*self.views.values(), *(use.plan for uses in self.sets.values() for use in uses))


@dataclass(frozen=True, slots=True)
class Published:
    """The names of views and sets, and what they stand for. What is put last holds."""

    _stages: Stages

    def last_id(self) -> int:
        """A number that grows with every change. Cheap enough to poll."""
        return self._stages.last_id(*_KINDS)

    def features(self) -> PublishedFeatures:
        """All that can be read by name now. Raises ``StoreError`` for what another version of headway wrote."""
        latest = [r for r in self._stages.latest(*_KINDS).values() if r.digest != _GONE]
        try:
            return PublishedFeatures(
                {r.target: msgspec.convert(r.output, ViewPlan) for r in latest if r.stage == "view"},
                {r.target: msgspec.convert(r.output, tuple[ViewUse, ...]) for r in latest if r.stage == "set"},
            )
        except msgspec.ValidationError as error:
            raise StoreError(
                f"a view was published by another version of headway; upgrade this one ({error})"
            ) from error

    def put_view(self, plan: ViewPlan, at: int) -> None:
        """Have a view's name stand for ``plan``, whose values are online."""
        self._put("view", plan.name, plan.fingerprint, plan, at)

    def put_set(self, name: str, uses: Sequence[ViewUse], at: int) -> None:
        """Have a set's name stand for ``uses``, whose values are online."""
        text = msgspec.json.encode(list(uses))
        self._put("set", name, hashlib.blake2b(text, digest_size=16).hexdigest(), list(uses), at)

    def withdraw(self, kind: Kind, name: str, at: int) -> None:
        """Have a name stand for nothing any more. A view that a live version reads is served all the same."""
        if self._current(kind, name) is not None:
            self._put(kind, name, _GONE, None, at)

    def _put(self, kind: Kind, name: str, digest: str, output: Any, at: int) -> None:
        current = self._current(kind, name)
        if current is None or current.digest != digest:
            self._stages.put(kind, name, digest, output, at)

    def _current(self, kind: Kind, name: str) -> StageResult | None:
        return self._stages.get(kind, name)
