"""The folder of an edition, ready for a hub: built beside its place, then renamed; goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mousecmr_data
from mousecmr_data._utils.atomic import translate_os_error
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.adapters import huggingface
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import CacheError, ChecksumError, MissingDataError
from mousecmr_data.publish import card, croissant, datasheet, licence, participants, shards
from mousecmr_data.publish.edition import Edition, of
from mousecmr_data.publish.shards import Plan, Shard

FORMAT = 1
PROVENANCE = "provenance.json"
SUMS = "SHA256SUMS"
_STATE = ".state.json"
"""In the folder that is being built: the files that are ready."""


def build(
    cohort: Cohort, name: str, folder: str | Path, done: Callable[[Plan], None] = lambda _: None
) -> tuple[Edition, Path]:
    """Build the edition of ``cohort`` called ``name`` (ORG/NAME) in ``folder``; returns both.

    Files that an earlier, broken-off run finished are taken over if they are what would be written now, and an
    edition that is complete already is left as it is. ``done`` is called with each Parquet file that is ready.

    Raises what :func:`publish.edition.of` raises, and CacheError where ``folder`` holds something else or cannot
    be written.
    """
    target = Path(folder).absolute()
    edition = of(cohort, name)
    wanted = shards.plans(edition)
    with hold_lock(get_cache_root() / "publish", str(target)):
        if _complete(target, edition, cohort, wanted):
            for plan in wanted:
                done(plan)
            return edition, target
        _ours_or_nothing(target)
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.mkdir(parents=True, exist_ok=True)
            written = _shards(wanted, cohort, partial, done)
            _documents(edition, written, partial)
            _sums(partial)
            (partial / _STATE).unlink()
            _put(partial, target)
        except OSError as e:
            raise translate_os_error(e, target) from e
    return edition, target


def check(folder: str | Path) -> dict[str, str]:
    """Hash every file of a built folder again: the SHA-256 by path. ChecksumError, MissingDataError."""
    folder = Path(folder)
    if not (folder / SUMS).is_file():
        raise MissingDataError(f"There is no {SUMS} in {folder}.", "a folder built by mousecmr publish")
    lines = [line.split("  ", 1) for line in (folder / SUMS).read_text("utf-8").splitlines()]
    sums = {path: sha256 for sha256, path in lines}
    for path, expected in sums.items():
        if not (folder / path).is_file():
            raise MissingDataError(
                f"{path} is missing in {folder}.", "a whole folder", f"rm -r {folder}; publish again"
            )
        if shards.digest(folder / path) != expected:
            raise ChecksumError(
                f"{folder / path} was changed.", f"SHA-256 {expected}", f"rm -r {folder}; publish again"
            )
    return sums


def _shards(wanted: list[Plan], cohort: Cohort, partial: Path, done: Callable[[Plan], None]) -> list[Shard]:
    state = partial / _STATE
    ready = _read_state(state)
    written = []
    for plan in wanted:
        shard = ready.get(plan.path)
        if shard is None or not _still(shard, plan, cohort, partial):
            shard = shards.write(plan, cohort, partial)
        written.append(shard)
        temporary = state.with_name(f"{_STATE}.part")
        temporary.write_text(json.dumps([asdict(s) for s in written]), encoding="utf-8")
        temporary.replace(state)
        done(plan)
    keep = {s.path for s in written} | {_STATE}
    for file in [p for p in partial.rglob("*") if p.is_file()]:  # of an edition with other files
        if file.relative_to(partial).as_posix() not in keep:
            file.unlink()
    return written


def _still(shard: Shard, plan: Plan, cohort: Cohort, folder: Path) -> bool:
    """Whether a file is whole and what ``plan`` would write now."""
    path = folder / plan.path
    return (
        (shard.config, shard.split, tuple(shard.mice)) == (plan.config, plan.split, plan.mice)
        and path.is_file()
        and path.stat().st_size == shard.bytes
        and shard.identity == huggingface.identity(cohort, plan.config, plan.mice)
        and shards.digest(path) == shard.sha256
    )


def _read_state(path: Path) -> dict[str, Shard]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {r["path"]: Shard(**{**r, "mice": tuple(r["mice"])}) for r in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _documents(edition: Edition, written: list[Shard], folder: Path) -> None:
    texts = {
        "README.md": card.text(edition, written),
        "croissant.json": croissant.text(edition, written),
        "DATASHEET.md": datasheet.text(edition),
        "participants.tsv": participants.table(edition),
        "participants.json": participants.sidecar(edition),
        "CITATION.bib": card.bibtex(edition),
        "LICENSE": licence.text(edition),
        PROVENANCE: json.dumps(_provenance(edition, written), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _provenance(edition: Edition, written: list[Shard]) -> dict[str, Any]:
    """Where everything comes from; without dates, so that the same data give the same bytes."""
    manifest = edition.manifest
    return {
        "format": FORMAT,
        "made_by": f"mousecmr-data {mousecmr_data.__version__}",
        "name": edition.name,
        "synthetic": edition.synthetic,
        "source": manifest.name,
        "version": manifest.version,
        "homepage": manifest.homepage,
        "licence": manifest.licence,
        "split_scheme": edition.split_scheme,
        "mice": {m.name: {"file": m.file, "checksum": m.checksum, "split": m.split} for m in edition.mice},
        "files": [asdict(s) for s in written],
    }


def _sums(folder: Path) -> None:
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{shards.digest(folder / p)}  {p}\n" for p in paths if p not in (_STATE, SUMS)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _complete(target: Path, edition: Edition, cohort: Cohort, wanted: list[Plan]) -> bool:
    try:
        table = json.loads((target / PROVENANCE).read_text(encoding="utf-8"))
        found = {r["path"]: Shard(**{**r, "mice": tuple(r["mice"])}) for r in table["files"]}
        check(target)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    same = _provenance(edition, [found[p.path] for p in wanted if p.path in found]) == {
        **table,
        "files": [asdict(s) for s in found.values()],
    }
    return same and len(found) == len(wanted) and all(_still(found[p.path], p, cohort, target) for p in wanted)


def _ours_or_nothing(target: Path) -> None:
    if target.exists() and not (target / PROVENANCE).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise CacheError(
            f"{target} holds something that mousecmr publish did not make.", "a new folder", "-o ANOTHER/FOLDER"
        )


def _put(partial: Path, target: Path) -> None:
    """Rename the new edition to its place; the older one goes when the new one is there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
