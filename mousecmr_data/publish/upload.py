"""A built folder to a hub: one commit, so that the dataset there is the old one or the new one, never a mixture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors

from mousecmr_data.adapters import huggingface
from mousecmr_data.errors import UploadError
from mousecmr_data.publish import folder as folders
from mousecmr_data.publish.edition import repo_id


@dataclass(frozen=True)
class Uploaded:
    """Where a dataset is now."""

    name: str
    commit: str
    """40 hex digits: ``load_dataset(name, revision=commit)`` pins it."""
    url: str


def upload(folder: str | Path, name: str, *, private: bool = False, message: str = "") -> Uploaded:
    """Upload a folder made by :func:`publish.folder.build` to the dataset ``name``; each file is hashed first.

    The hub is that of ``HF_ENDPOINT``, the token that of ``HF_TOKEN`` or of ``hf auth login``. Files that the hub has
    are not sent again, so an upload that was broken off goes on. Files of an older edition are removed in the same
    commit. ``private`` counts for a dataset that does not exist yet.

    Raises ChecksumError, MissingDataError (the folder is not whole), UploadError (the hub refused, or is not there).
    """
    root = Path(folder)
    paths = [*folders.check(root), folders.SUMS]
    api = HfApi(library_name="mousecmr-data")
    try:
        api.create_repo(repo_id(name), repo_type="dataset", private=private, exist_ok=True)
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
            f"The hub did not take {name}: {_reason(e)}",
            "a token that may write there (HF_TOKEN) and a connection",
            "hf auth login, then the same command again: what was sent is not sent twice",
        ) from e
    return Uploaded(name, made.oid, f"{api.endpoint}/datasets/{name}")


def _reason(error: BaseException) -> str:
    """The first lines of an error and of what caused it."""
    found = []
    while True:
        found.append((str(error).strip().splitlines() or [type(error).__name__])[0])
        if error.__cause__ is None:
            return " ".join(dict.fromkeys(found))
        error = error.__cause__
