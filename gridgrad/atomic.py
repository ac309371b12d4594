"""Files and folders that appear whole or not at all; what a killed run has left of them goes with the next one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing tells what a killed run has left from what a living one writes
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_files", "atomic_folder", "clean", "real_path", "refuse_existing"]

_MARK = ".gridgrad-"


@contextmanager
def atomic_files(paths: Sequence[Path], *, overwrite: bool = True, sync: bool = False) -> Iterator[list[Path]]:
    """Give temporary files, in a hidden folder beside `paths`; they take those names at the end, or vanish on an error.

    A symbolic link is followed: it stays, and what it points to is replaced. With `sync` the files are on the disk
    before they take their names, and the names are before this returns.

    Raises
    ------
    ValueError
        If two of the paths are the same file.
    FileExistsError
        If one of them is there already, unless `overwrite`.
    OSError
        If a file cannot be written; with its name.
    """
    targets = [real_path(path) for path in paths]
    if len(set(targets)) < len(targets):
        raise ValueError(f"output: {', '.join(map(str, paths))} are the same file, expected different ones")
    if not overwrite:
        refuse_existing(paths)
    parents = {path.parent: path for path in targets}
    try:
        with ExitStack() as stack:
            beside = {parent: stack.enter_context(_hidden_folder(path)) for parent, path in parents.items()}
            temporaries = [beside[path.parent] / path.name for path in targets]
            yield temporaries
            if sync:
                for temporary in temporaries:
                    _sync(temporary)
            for temporary, path in zip(temporaries, targets, strict=True):
                _publish(temporary, path, overwrite)
            if sync:
                for parent in parents:
                    _sync(parent)
    except OSError as error:
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise OSError(error.errno, f"output: {error.strerror or error}", f"{paths[0]}{others}") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder; it becomes `path` at the end, or vanishes on an error.

    Raises
    ------
    FileExistsError
        If the path is there already.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists; expected a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_folder(path) as hidden:
        whole = hidden / path.name
        whole.mkdir()
        yield whole
        whole.rename(path)


def refuse_existing(paths: Sequence[Path]) -> None:
    """Refuse outputs that are there already.

    Raises
    ------
    FileExistsError
        Naming the first of them.
    """
    for path in paths:
        if path.exists():
            raise FileExistsError(f"output: {path} exists; expected a new file, or overwrite=True (--overwrite)")


def clean(folder: Path) -> None:
    """Remove the hidden folders that killed runs have left in a folder."""
    for left in folder.glob(f".*{_MARK}*"):
        _remove_if_left(left)


def real_path(path: Path) -> Path:
    """Return where a path leads, through links that may point to nothing yet."""
    return Path(os.path.realpath(path))


# --- hidden folders: the process that writes holds a lock, which the system takes back when it dies -------------------


@contextmanager
def _hidden_folder(path: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside a path; what killed runs have left of this path is removed."""
    if fcntl is None:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}{_MARK}", dir=path.parent) as temporary:
            yield Path(temporary)
        return
    names = (path.with_name(f".{path.stem}{_MARK}{number}") for number in count())
    name, handle = next(
        (name, handle) for name in names if (handle := _lock(name, make=True)) is not None
    )  # fmt: skip
    try:
        _empty(name)
        for later in names:
            if not later.exists():
                break
            _remove_if_left(later)
        yield name
    finally:
        shutil.rmtree(name, ignore_errors=True)
        os.close(handle)


def _lock(folder: Path, make: bool = False) -> int | None:
    """Return a locked handle of a folder; None if it is not there, or belongs to a living run or to somebody else."""
    made = False
    while True:
        if make:
            try:
                folder.mkdir(mode=0o700)
                made = True
            except FileExistsError:
                pass
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if make:  # another run has just removed it
                continue
            return None
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ELOOP, errno.ENOTDIR):
                return None
            raise
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        except OSError:  # a file system without locks
            mine = made
        if mine and _is_at(handle, folder):
            return handle
        os.close(handle)
        if not (mine and make):
            return None


def _is_at(handle: int, folder: Path) -> bool:
    """Whether a folder that was opened still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _remove_if_left(folder: Path) -> None:
    handle = None if fcntl is None else _lock(folder)
    if handle is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


# --- names ------------------------------------------------------------------------------------------------------------


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, path)
            return
        except FileExistsError:  # another run was faster
            raise
        except OSError:  # a file system without links
            pass
    os.replace(temporary, path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
