from collections.abc import Iterator
from pathlib import Path

import pytest
import ragged

from mousecmr_data.dataset.cohort import Cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Return five small mice that differ in every property; their manifest says that they are real."""
    return ragged.cohort(tmp_path_factory.mktemp("ragged"))


@pytest.fixture(scope="session")
def built(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build their folder once; tests must not change it."""
    pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
    from mousecmr_data.export.hub import build_folder

    root = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_CACHE", str(root / "cache"))
        yield build_folder(cohort, "lab/ragged", root / "ragged")[1]
