"""The base class of lazy arrays, which xarray reads when they are indexed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

Key = tuple[Any, ...]
"""One index per axis: an integer, a slice, or (if ``support`` allows it) an array of integers."""


class LazyArray(BackendArray):
    """An array of a known shape and dtype that is read when indexed; :func:`wrap_lazy` prepares it for xarray."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.OUTER_1VECTOR
    """The keys that ``read`` accepts; xarray splits other keys."""

    @abstractmethod
    def read(self, key: Key) -> NDArray[Any]:
        """Return a part; an integer drops its axis."""

    def read_all(self) -> NDArray[Any]:
        """Return the whole array."""
        return self.read((slice(None),) * len(self.shape))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, self.support, self.read)


def wrap_lazy(array: LazyArray | NDArray[Any]) -> Any:
    """Return ``array`` in the form that ``xarray.Dataset`` takes; lazy arrays stay lazy."""
    return indexing.LazilyIndexedArray(array) if isinstance(array, LazyArray) else array
