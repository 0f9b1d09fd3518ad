"""Which mice a split names; splits are by mouse and disjoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mousecmr_data.cine.cohort import known
from mousecmr_data.errors import ManifestError, UnknownNameError
from mousecmr_data.schema.manifest import Manifest


def assignment(manifest: Manifest, split: str | None, scheme_name: str) -> dict[str, str]:
    """Which split each mouse is in; checked to be disjoint."""
    if split is None and not any(s.mice for s in manifest.splits.values()):
        return {}  # a manifest of one's own without splits
    scheme = manifest.split_scheme(scheme_name)
    if split is not None and split not in scheme.mice:
        raise UnknownNameError(
            f"There is no split {split!r} in the scheme {scheme_name!r}.",
            f"one of {', '.join(map(repr, scheme.mice))}, or None for every mouse",
            f"load(split={next(iter(scheme.mice))!r})",
        )
    assigned: dict[str, str] = {}
    for name, members in scheme.mice.items():
        if overlap := assigned.keys() & set(members):
            raise ManifestError(f"{sorted(overlap)[0]} is in two splits of {scheme_name!r}.", "disjoint splits")
        assigned |= dict.fromkeys(members, name)
    return assigned


def chosen(manifest: Manifest, mice: Iterable[str] | None, split: str | None, assigned: Mapping[str, str]) -> list[str]:
    """The mice to load, in the manifest's order or the caller's; checked to belong to ``split``."""
    if mice is None:
        return [m for m in manifest.files if split is None or assigned.get(m) == split]
    names = [known(m, manifest.files) for m in ([mice] if isinstance(mice, str) else mice)]
    if split is not None and (strangers := [m for m in names if assigned.get(m) != split]):
        raise UnknownNameError(
            f"{strangers[0]} is in the split {assigned.get(strangers[0], 'none')!r}, not in {split!r}.",
            "mice of the split asked for",
            "leave out split=... or mice=...",
        )
    return list(dict.fromkeys(names))
