"""The stand-in driver, seen from Python: its journal of calls, and kernels in place of cubins."""

import ctypes

from cuda_on_cpu import build


class Entry(ctypes.Structure):
    """One call; the fields of driver.c."""

    _fields_ = [
        ("what", ctypes.c_char * 16),
        ("name", ctypes.c_char * 64),
        ("stream", ctypes.c_void_p),
        ("other", ctypes.c_void_p),
        ("device", ctypes.c_int),
        ("thread", ctypes.c_long),
        ("capture", ctypes.c_long),
        ("grid", ctypes.c_uint),
        ("block", ctypes.c_uint),
        ("bytes", ctypes.c_size_t),
    ]


class Journal:
    """What the stand-in driver was asked to do since this was made."""

    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.count = ctypes.c_long.in_dll(self.library, "standin_entries")
        self.entries = (Entry * 4096).in_dll(self.library, "standin_journal")
        self.start = self.count.value

    def read(self, *kinds):
        """Return the entries of these kinds, or all, in order."""
        found = [Entry.from_buffer_copy(self.entries[i % 4096]) for i in range(self.start, self.count.value)]
        return [entry for entry in found if not kinds or entry.what.decode() in kinds]

    def stack_depth(self):
        """Return how many contexts are pushed on this thread."""
        return self.library.standin_stack_depth()


def is_loaded():
    """Return whether libcuda.so.1 is the stand-in."""
    try:
        return hasattr(ctypes.CDLL("libcuda.so.1"), "standin_entries")
    except OSError:
        return False


def image(real, architecture):
    """Return what the stand-in takes for a cubin."""
    build.build_kernels()
    return f"SHIM:{build.kernel_library(real)}\0".encode()
