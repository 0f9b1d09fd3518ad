"""Build the folder of a release and upload it to a hub.

The folder is built beside its target, and its files are then moved there; an interrupted build continues where it
stopped.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mousecmr_data._utils.atomic import PART, dump_json, translate_os_error, write_json, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.network import bypass_proxy, check_online
from mousecmr_data._utils.outputs import (
    BEING_WRITTEN,
    RECORD_FILE,
    check_apart,
    check_replaceable,
    publish_folder,
    read_listed_files,
)
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data._utils.reading import ABSENT
from mousecmr_data._version import __version__
from mousecmr_data.adapters import huggingface
from mousecmr_data.dataset.cohort import Cohort, list_inputs
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import ChecksumError, MissingDataError, MissingExtraError, OutputError, UploadError
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

try:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors
except ImportError as e:
    raise MissingExtraError.from_module("huggingface_hub", "huggingface") from e

FOLDER_FORMAT = 1
PROVENANCE_FILE = "provenance.json"
SUMS_FILE = "SHA256SUMS"
_MADE_BY = "mousecmr-data"
_STATE_FILE = ".state.json"
"""Lists the finished files, in the folder that is being built."""


def build_folder(
    cohort: Cohort,
    name: str,
    folder: str | Path,
    progress: ProgressCallback = lambda _: None,
    *,
    overwrite: bool = False,
) -> tuple[Release, Path]:
    """Build the release of ``cohort`` called ``name`` (ORG/NAME) in ``folder``; return both.

    Files that an earlier, interrupted run finished are kept if the same would be written now, and a complete release
    is not built again. ``progress`` is called with 1 for each finished Parquet file.

    Raises the errors of :func:`mousecmr_data.export.release.make_release`, OutputError where ``folder`` holds no
    release but other files, meets files of ``cohort``, or holds a release that was edited (``overwrite`` replaces
    edited files), and CacheError where it cannot be written. Files that somebody added to a release stay.
    """
    target = Path(folder).absolute()
    release = make_release(cohort, name)
    plans = plan_shards(release)
    partial = target.with_name(f"{PART}publish-{target.name}")
    check_apart([target, partial], list_inputs(cohort))
    with hold_lock(get_cache_root() / "publish", str(target.resolve())):
        if _is_complete(target, release, cohort, plans):
            for _ in plans:
                progress(1)
            return release, target
        is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
        if not is_free and not _is_release(target):
            raise OutputError(
                f"{target} holds files that mousecmr publish did not make.", "a new folder", "-o ANOTHER/FOLDER"
            )
        # What a killed run left may be older than its SHA256SUMS: the record of files comes first.
        listed = {SUMS_FILE: BEING_WRITTEN, **_read_sums(target), **read_listed_files(target / RECORD_FILE)}
        check_replaceable(target, listed, listed, overwrite=overwrite)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            written = _write_shards(plans, cohort, partial, progress)
            _write_documents(release, written, partial)
            (partial / _STATE_FILE).unlink()
            paths = sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file())
            sums = [f"{compute_sha256(partial / p)}  {p}\n" for p in paths if p != SUMS_FILE]
            write_text(partial / SUMS_FILE, "".join(sums))
            publish_folder(partial, target, listed=listed, overwrite=overwrite)
            shutil.rmtree(partial)
        except OSError as e:
            raise translate_os_error(e, target) from e
    return release, target


def check_folder(folder: str | Path) -> dict[str, str]:
    """Hash every file of a built folder again; return the SHA-256 by path.

    Raises MissingDataError where a file is missing, ChecksumError where it was changed.
    """
    folder = Path(folder)
    if not (folder / SUMS_FILE).is_file():
        raise MissingDataError(f"There is no {SUMS_FILE} in {folder}.", "a folder built by mousecmr publish")
    sums = _read_sums(folder)
    next_step = "mousecmr publish with --overwrite (build_folder(..., overwrite=True)) writes it again"
    for path, expected in sums.items():
        if not (folder / path).is_file():
            raise MissingDataError(f"{path} is missing in {folder}.", "a complete folder", next_step)
        if compute_sha256(folder / path) != expected:
            raise ChecksumError(f"{folder / path} was changed.", f"SHA-256 {expected}", next_step)
    return sums


def _is_release(folder: Path) -> bool:
    """Return whether this library built ``folder``."""
    try:
        made_by = str(json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))["made_by"])
    except (*ABSENT, ValueError, KeyError, TypeError):
        return False
    return made_by.startswith(_MADE_BY)


def _read_sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a release by path; empty where there is no list of them."""
    try:
        lines = (folder / SUMS_FILE).read_text("utf-8").splitlines()
        sums = {path: sha256 for sha256, path in (line.split("  ", 1) for line in lines)}
    except (*ABSENT, ValueError):
        return {}
    return {path: sha256 for path, sha256 in sums.items() if ".." not in Path(path).parts}


def _write_shards(plans: list[ShardPlan], cohort: Cohort, partial: Path, progress: ProgressCallback) -> list[Shard]:
    state = partial / _STATE_FILE
    try:
        finished = _parse_shards(json.loads(state.read_text(encoding="utf-8")))
    except (*ABSENT, ValueError, TypeError, KeyError):
        finished = {}
    written: list[Shard] = []
    for plan in plans:
        shard = finished.get(plan.path)
        if shard is None or not _is_current(shard, plan, cohort, partial):
            shard = write_shard(plan, cohort, partial)
        written.append(shard)
        write_json(state, [asdict(s) for s in written])
        progress(1)
    keep = {partial / s.path for s in written} | {state}
    for file in [p for p in partial.rglob("*") if p.is_file() and p not in keep]:  # of a release with other files
        file.unlink()
    return written


def _parse_shards(rows: list[dict[str, Any]]) -> dict[str, Shard]:
    return {r["path"]: Shard(**{**r, "mice": tuple(r["mice"])}) for r in rows}


def _is_current(shard: Shard, plan: ShardPlan, cohort: Cohort, folder: Path) -> bool:
    """Return whether a file is complete and the same that ``plan`` would write now."""
    path = folder / plan.path
    return (
        (shard.config, shard.split, tuple(shard.mice)) == (plan.config, plan.split, plan.mice)
        and path.is_file()
        and path.stat().st_size == shard.bytes
        and shard.identity == huggingface.compute_fingerprint(cohort, plan.config, plan.mice)
        and compute_sha256(path) == shard.sha256
    )


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
    """Return the origin of every file; without dates, so that the same data give the same bytes."""
    manifest = release.manifest
    return {
        "format": FOLDER_FORMAT,
        "made_by": f"{_MADE_BY} {__version__}",
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


def _is_complete(target: Path, release: Release, cohort: Cohort, plans: list[ShardPlan]) -> bool:
    """Return whether ``target`` holds the release as it would be built now."""
    try:
        provenance = json.loads((target / PROVENANCE_FILE).read_text(encoding="utf-8"))
        shards = _parse_shards(provenance["files"])
        check_folder(target)
    except (*ABSENT, ChecksumError, ValueError, TypeError, KeyError):
        return False
    if shards.keys() != {p.path for p in plans}:
        return False
    expected = _make_provenance(release, [shards[p.path] for p in plans])
    current = {**provenance, "files": [asdict(s) for s in shards.values()]}
    return expected == current and all(_is_current(shards[p.path], p, cohort, target) for p in plans)


@dataclass(frozen=True)
class UploadResult:
    """Where a dataset was uploaded."""

    name: str
    commit: str
    """40 hex digits: ``load_dataset(name, revision=commit)`` pins it."""
    url: str


def upload_folder(folder: str | Path, name: str, *, private: bool = False, message: str = "") -> UploadResult:
    """Upload a folder made by :func:`build_folder` to the dataset ``name``; each file is hashed first.

    The upload is one commit, so that the dataset on the hub is the old or the new one, never a mixture. The hub is
    that of ``HF_ENDPOINT``, the token that of ``HF_TOKEN`` or of ``hf auth login``. Files that the hub has are not
    sent again, so an interrupted upload continues. Files of an older release are removed in the same commit.
    ``private`` applies to a dataset that does not exist yet.

    Raises ChecksumError or MissingDataError (the folder is not complete), UploadError (the hub refused, cannot be
    reached, or ``MOUSECMR_OFFLINE`` is set).
    """
    root = Path(folder)
    paths = [*check_folder(root), SUMS_FILE]
    check_online(f"The upload of {name}", UploadError)
    api = HfApi(library_name="mousecmr-data")
    bypass_proxy(urlsplit(api.endpoint).hostname or "")
    try:
        api.create_repo(check_repo_id(name), repo_type="dataset", private=private, exist_ok=True)
        prefixes = tuple(f"{config}/" for config in huggingface.CONFIGS)
        remote = api.list_repo_files(name, repo_type="dataset")
        stale = [p for p in remote if p.startswith(prefixes) and p not in paths]
        commit = api.create_commit(
            name,
            [*(CommitOperationDelete(p) for p in stale), *(CommitOperationAdd(p, root / p) for p in paths)],
            commit_message=message or "Published with mousecmr-data",
            repo_type="dataset",
        )
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, OSError, RuntimeError) as e:
        raise UploadError(
            f"The hub did not accept {name}: {_describe_error(e)}",
            "a token with write access (HF_TOKEN) and a connection",
            "hf auth login, then the same command again: no file is sent twice",
        ) from e
    return UploadResult(name, commit.oid, f"{api.endpoint}/datasets/{name}")


def _describe_error(error: BaseException | None) -> str:
    """Return the first lines of an error and of its causes."""
    lines = []
    while error is not None:
        lines.append((str(error).strip().splitlines() or [type(error).__name__])[0])
        error = error.__cause__
    return " ".join(dict.fromkeys(lines))
