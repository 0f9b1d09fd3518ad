"""The folder of an edition, ready for a hub: built beside its place, then renamed; goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors

from mousecmr_data._utils.atomic import replace_folder, translate_os_error, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.json import dump_json, write_json
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data._version import __version__
from mousecmr_data.adapters import huggingface
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import CacheError, ChecksumError, MissingDataError, UploadError
from mousecmr_data.export.card import (
    make_release_bibtex,
    render_card,
    render_datasheet,
    render_participants,
    render_participants_sidecar,
)
from mousecmr_data.export.croissant import render_croissant
from mousecmr_data.export.release import (
    Release,
    Shard,
    ShardPlan,
    check_repo_id,
    make_license_text,
    make_release,
    plan_shards,
    write_shard,
)

FOLDER_FORMAT = 1
PROVENANCE_FILE = "provenance.json"
SUMS_FILE = "SHA256SUMS"
_STATE_FILE = ".state.json"
"""In the folder that is being built: the files that are ready."""


def build_folder(
    cohort: Cohort, name: str, folder: str | Path, progress: ProgressCallback = lambda _: None
) -> tuple[Release, Path]:
    """Build the edition of ``cohort`` called ``name`` (ORG/NAME) in ``folder``; returns both.

    Files that an earlier, broken-off run finished are taken over if they are what would be written now, and an
    edition that is complete already is left as it is. ``progress`` is called with 1 for each Parquet file that is ready.

    Raises what :func:`export.release.make_release` raises, and CacheError where ``folder`` holds something else or cannot
    be written.
    """
    target = Path(folder).absolute()
    release = make_release(cohort, name)
    wanted = plan_shards(release)
    with hold_lock(get_cache_root() / "publish", str(target)):
        if _is_complete(target, release, cohort, wanted):
            for _ in wanted:
                progress(1)
            return release, target
        _check_target(target)
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.mkdir(parents=True, exist_ok=True)
            written = _write_shards(wanted, cohort, partial, progress)
            _write_documents(release, written, partial)
            _write_sums(partial)
            (partial / _STATE_FILE).unlink()
            replace_folder(partial, target)
        except OSError as e:
            raise translate_os_error(e, target) from e
    return release, target


def check_folder(folder: str | Path) -> dict[str, str]:
    """Hash every file of a built folder again: the SHA-256 by path. ChecksumError, MissingDataError."""
    folder = Path(folder)
    if not (folder / SUMS_FILE).is_file():
        raise MissingDataError(f"There is no {SUMS_FILE} in {folder}.", "a folder built by mousecmr publish")
    lines = [line.split("  ", 1) for line in (folder / SUMS_FILE).read_text("utf-8").splitlines()]
    sums = {path: sha256 for sha256, path in lines}
    for path, expected in sums.items():
        if not (folder / path).is_file():
            raise MissingDataError(
                f"{path} is missing in {folder}.", "a whole folder", f"rm -r {folder}; publish again"
            )
        if compute_sha256(folder / path) != expected:
            raise ChecksumError(
                f"{folder / path} was changed.", f"SHA-256 {expected}", f"rm -r {folder}; publish again"
            )
    return sums


def _write_shards(wanted: list[ShardPlan], cohort: Cohort, partial: Path, progress: ProgressCallback) -> list[Shard]:
    state = partial / _STATE_FILE
    ready = _read_state(state)
    written = []
    for plan in wanted:
        shard = ready.get(plan.path)
        if shard is None or not _is_current(shard, plan, cohort, partial):
            shard = write_shard(plan, cohort, partial)
        written.append(shard)
        write_json(state, [asdict(s) for s in written])
        progress(1)
    keep = {s.path for s in written} | {_STATE_FILE}
    for file in [p for p in partial.rglob("*") if p.is_file()]:  # of an edition with other files
        if file.relative_to(partial).as_posix() not in keep:
            file.unlink()
    return written


def _is_current(shard: Shard, plan: ShardPlan, cohort: Cohort, folder: Path) -> bool:
    """Whether a file is whole and what ``plan`` would write now."""
    path = folder / plan.path
    return (
        (shard.config, shard.split, tuple(shard.mice)) == (plan.config, plan.split, plan.mice)
        and path.is_file()
        and path.stat().st_size == shard.bytes
        and shard.identity == huggingface.compute_fingerprint(cohort, plan.config, plan.mice)
        and compute_sha256(path) == shard.sha256
    )


def _read_state(path: Path) -> dict[str, Shard]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {r["path"]: Shard(**{**r, "mice": tuple(r["mice"])}) for r in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write_documents(release: Release, written: list[Shard], folder: Path) -> None:
    texts = {
        "README.md": render_card(release, written),
        "croissant.json": render_croissant(release, written),
        "DATASHEET.md": render_datasheet(release),
        "participants.tsv": render_participants(release),
        "participants.json": render_participants_sidecar(release),
        "CITATION.bib": make_release_bibtex(release),
        "LICENSE": make_license_text(release),
        PROVENANCE_FILE: dump_json(_make_provenance(release, written)),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def _make_provenance(release: Release, written: list[Shard]) -> dict[str, Any]:
    """Where everything comes from; without dates, so that the same data give the same bytes."""
    manifest = release.manifest
    return {
        "format": FOLDER_FORMAT,
        "made_by": f"mousecmr-data {__version__}",
        "name": release.name,
        "synthetic": release.synthetic,
        "source": manifest.name,
        "version": manifest.version,
        "homepage": manifest.homepage,
        "licence": manifest.licence,
        "split_scheme": release.split_scheme,
        "mice": {m.name: {"file": m.file, "checksum": m.checksum, "split": m.split} for m in release.mice},
        "files": [asdict(s) for s in written],
    }


def _write_sums(folder: Path) -> None:
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{compute_sha256(folder / p)}  {p}\n" for p in paths if p not in (_STATE_FILE, SUMS_FILE)]
    write_text(folder / SUMS_FILE, "".join(lines))


def _is_complete(target: Path, release: Release, cohort: Cohort, wanted: list[ShardPlan]) -> bool:
    try:
        table = json.loads((target / PROVENANCE_FILE).read_text(encoding="utf-8"))
        found = {r["path"]: Shard(**{**r, "mice": tuple(r["mice"])}) for r in table["files"]}
        check_folder(target)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    same = _make_provenance(release, [found[p.path] for p in wanted if p.path in found]) == {
        **table,
        "files": [asdict(s) for s in found.values()],
    }
    return same and len(found) == len(wanted) and all(_is_current(found[p.path], p, cohort, target) for p in wanted)


def _check_target(target: Path) -> None:
    if target.exists() and not (target / PROVENANCE_FILE).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise CacheError(
            f"{target} holds something that mousecmr publish did not make.", "a new folder", "-o ANOTHER/FOLDER"
        )


# MERGED export.hub: A built folder to a hub: one commit, so that the dataset there is the old one or the new one, never a mixture.


@dataclass(frozen=True)
class UploadResult:
    """Where a dataset is now."""

    name: str
    commit: str
    """40 hex digits: ``load_dataset(name, revision=commit)`` pins it."""
    url: str


def upload_folder(folder: str | Path, name: str, *, private: bool = False, message: str = "") -> UploadResult:
    """Upload a folder made by :func:`export.hub.build_folder` to the dataset ``name``; each file is hashed first.

    The hub is that of ``HF_ENDPOINT``, the token that of ``HF_TOKEN`` or of ``hf auth login``. Files that the hub has
    are not sent again, so an upload that was broken off goes on. Files of an older edition are removed in the same
    commit. ``private`` counts for a dataset that does not exist yet.

    Raises ChecksumError, MissingDataError (the folder is not whole), UploadError (the hub refused, or is not there).
    """
    root = Path(folder)
    paths = [*check_folder(root), SUMS_FILE]
    api = HfApi(library_name="mousecmr-data")
    try:
        api.create_repo(check_repo_id(name), repo_type="dataset", private=private, exist_ok=True)
        there = api.list_repo_files(name, repo_type="dataset")
        ours = tuple(f"{config}/" for config in huggingface.CONFIGS)
        stale = [p for p in there if p.startswith(ours) and p not in paths]
        made = api.create_commit(
            name,
            [
                *(CommitOperationDelete(p) for p in stale),
                *(CommitOperationAdd(p, root / p) for p in paths),
            ],
            commit_message=message or "Published with mousecmr-data",
            repo_type="dataset",
        )
    except (errors.HfHubHTTPError, huggingface_hub.errors.LocalTokenNotFoundError, OSError, RuntimeError) as e:
        raise UploadError(
            f"The hub did not take {name}: {_describe_error(e)}",
            "a token that may write there (HF_TOKEN) and a connection",
            "hf auth login, then the same command again: what was sent is not sent twice",
        ) from e
    return UploadResult(name, made.oid, f"{api.endpoint}/datasets/{name}")


def _describe_error(error: BaseException) -> str:
    """The first lines of an error and of what caused it."""
    found = []
    while True:
        found.append((str(error).strip().splitlines() or [type(error).__name__])[0])
        if error.__cause__ is None:
            return " ".join(dict.fromkeys(found))
        error = error.__cause__
