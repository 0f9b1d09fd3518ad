import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def images() -> NDArray[np.uint16]:
    """(frame 3, slice 4, y 80, x 72): all axes of different length, all planes different."""
    z, y, x = np.mgrid[:4, :80, :72]
    stack = 400 + 300 * z + 3 * y + 2 * x
    return np.stack([stack + 20 * t for t in range(3)]).astype(np.uint16)
