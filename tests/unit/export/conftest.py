from collections.abc import Iterator
from pathlib import Path

import pytest
import ragged

from mousecmr_data.dataset.cohort import Cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Five small mice that differ in everything, real by their manifest."""
    return ragged.cohort(tmp_path_factory.mktemp("ragged"))


@pytest.fixture(scope="session")
def built(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Their folder, built once; not to be changed."""
    pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
    from mousecmr_data.export.hub import build_folder

    root = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_CACHE", str(root / "cache"))
        yield build_folder(cohort, "lab/ragged", root / "ragged")[1]
