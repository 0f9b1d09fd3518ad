"""The base of our lazy arrays: what xarray needs to put off reading."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

Key = tuple[Any, ...]
"""One index an axis: an integer, a slice, or (as far as ``support`` says) an array of integers."""


class LazyArray(BackendArray):
    """An array of a known shape and dtype that is read when indexed; ``variable`` hands it to xarray."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.OUTER_1VECTOR
    """Which keys ``read`` takes; xarray breaks others down."""

    @abstractmethod
    def read(self, key: Key) -> NDArray[Any]:
        """Read a part; an integer drops its axis."""

    def read_all(self) -> NDArray[Any]:
        """Read everything."""
        return self.read((slice(None),) * len(self.shape))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, self.support, self.read)


def wrap_lazy(array: LazyArray | NDArray[Any]) -> Any:
    """What to give to ``xarray.Dataset``: lazy stays lazy."""
    return indexing.LazilyIndexedArray(array) if isinstance(array, LazyArray) else array
