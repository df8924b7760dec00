"""What `multiprocessing.shared_memory` holds; see `ringspan.compat.multiprocessing`."""

from ringspan.compat.multiprocessing._list import ShareableList
from ringspan.compat.multiprocessing._memory import SharedMemory

__all__ = ["ShareableList", "SharedMemory"]
