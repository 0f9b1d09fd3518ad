"""Groups of mice, as the user gives them: none are published."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data.errors import ManifestError, MissingDataError, UnknownNameError
from mousecmr_data.schema.manifest import Manifest


def phenotypes_of(table: Any, manifest: Manifest) -> dict[str, str]:
    """Phenotypes by mouse from a CSV file, a DataFrame, a Series or a mapping."""
    if table is None:
        return {}
    wanted = "columns mouse and phenotype, a row a mouse"
    if isinstance(table, str | PathLike):
        if not Path(table).is_file():
            raise MissingDataError(f"There is no file {table}.", f"a CSV file with the {wanted}")
        try:
            table = pd.read_csv(table, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as e:
            raise ManifestError(f"{table} is not a CSV file: {e}", f"a CSV file with the {wanted}") from e
    if isinstance(table, pd.DataFrame):
        if "mouse" not in table.columns and table.index.name == "mouse":
            table = table.reset_index()
        if not {"mouse", "phenotype"} <= set(table.columns):
            raise ManifestError(f"The phenotypes have the columns {list(table.columns)}.", wanted)
        pairs = list(zip(table["mouse"], table["phenotype"], strict=True))
    else:
        pairs = list(table.items())
    groups: dict[str, str] = {}
    for mouse, group in pairs:
        if pd.isna(group):
            continue
        if mouse not in manifest.files:
            raise UnknownNameError(f"The phenotypes name {mouse!r}.", f"mice of {manifest.name}")
        if groups.setdefault(mouse, str(group)) != str(group):
            raise ManifestError(f"The phenotypes give {mouse} twice: {groups[mouse]!r}, {group!r}.", wanted)
    return {m: g for m, g in groups.items() if g and g != "nan"}
