"""Arguments of the command ``gridgrad``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gridgrad.cli.terminal import printable

__all__ = ["main"]

_NUMBERS_AFTER = ("--center", "--dimension")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        0; 1 if a molecule could not be gridded or typed, or a number of the demo did not come out; 2 for arguments
        that cannot be followed.
    """
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    failure: object = None
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        _give_up_output()
        return 141
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        status, failure = 2, error
        if isinstance(error, OSError) and error.errno and not error.filename:  # every other file has a name
            _give_up_output()
            failure = f"standard output: {error.strerror}"
    except KeyboardInterrupt:
        status, failure = 130, "interrupted"
    if failure:
        print(f"gridgrad {arguments.command}: {printable(failure)}", file=sys.stderr)
    return status


def _give_up_output() -> None:
    """Leave the interpreter nothing to complain about when it flushes what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _joined(argv: Sequence[str]) -> list[str]:
    """Write ``--center -1,2,3`` as ``--center=-1,2,3``: argparse takes the value for an option otherwise."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in _NUMBERS_AFTER and re.match(r"-[\d.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _triple(text: str) -> tuple[float, float, float]:
    values = tuple(float(word) for word in text.split(","))
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected x,y,z")
    return values


def _side(text: str) -> float | tuple[float, float, float]:
    return _triple(text) if "," in text else float(text)


def _shard(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    return int(i), int(n)


def _mebibytes(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


# argparse names them in its errors
_triple.__name__, _side.__name__, _mebibytes.__name__ = "x,y,z", "length or x,y,z", "number of MiB"
_shard.__name__ = "I/N"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gridgrad", description="Differentiable atomic density grids.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_grid(commands)
    _add_prepare(commands)
    _add_fit(commands)
    demo = commands.add_parser(
        "demo", help="grid a real molecule, differentiate it twice, check closed forms, draw pictures"
    )
    demo.add_argument("--output", "-o", type=Path, metavar="DIR",
                      help="folder for the pictures (default: gridgrad-demo, whose pictures are replaced)")  # fmt: skip
    _add_overwrite(demo)
    demo.set_defaults(run=_run_demo)
    info = commands.add_parser("info", help="versions, SIMD level, threads, CUDA")
    info.set_defaults(run=_run_info)
    return parser


def _add_grid(commands: argparse._SubParsersAction) -> None:
    grid = commands.add_parser(
        "grid",
        help="grid molecules",
        description="Grid the molecules of SDF, MOL, MOL2, XYZ, PDB, PDBQT or CIF files, plain or gzipped. "
        "With several molecules the outputs are numbered: OUT_0001.npz, OUT_0002.npz and so on.",
    )
    grid.set_defaults(run=_run_grid)
    add = grid.add_argument
    add("ligands", nargs="+", type=Path, metavar="LIGAND", help="molecule file, with one or many records")

    group = grid.add_argument_group("molecules")
    add = group.add_argument
    add("--receptor", type=Path, metavar="REC", help="surroundings, in channels of their own")
    _add_typing(group)

    group = grid.add_argument_group("grid")
    add = group.add_argument
    add("--center", type=_triple, metavar="X,Y,Z", help="centre in angstrom (default: mean position of the ligand)")
    add("--resolution", type=float, default=0.5, metavar="A", help="spacing in angstrom (default: %(default)s)")
    add("--dimension", type=_side, default=23.5, metavar="A|X,Y,Z", help="edge of the box (default: %(default)s)")
    add("--tail", default="quadratic", choices=("quadratic", "quintic", "truncated"), help="how the Gaussian ends")
    add("--binary", action="store_true", help="1 within the radius and 0 outside, no Gaussian")
    add("--radius-scale", type=float, default=1.0, metavar="F", help="factor on every radius (default: %(default)s)")
    add("--gaussian-radius-multiple", type=float, default=1.0, metavar="M", help="radii to the tail (default: 1)")
    add("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--workers", type=int, default=1, metavar="N", help="processes, on the CPU (default: %(default)s)")
    add("--dtype", default="float32", choices=("float32", "float64"), help="precision (default: %(default)s)")

    group = grid.add_argument_group("output")
    add = group.add_argument
    add("--output", "-o", type=Path, metavar="OUT",
        help="grid file: .npz or .pt with all channels; .dx, .mrc, .map or .ccp4 with one volume")  # fmt: skip
    add("--channel", default="total", metavar="NAME",
        help="volume for .dx or .mrc: total (default), a channel's name, or each: one file per channel")  # fmt: skip
    add("--png", type=Path, metavar="FILE", help="picture")
    add("--html", type=Path, metavar="FILE", help="page with 3D isosurfaces; needs no network")
    _add_overwrite(group)


def _add_overwrite(group: argparse._ActionsContainer) -> None:
    group.add_argument("--overwrite", action="store_true", help="replace output files that are there already")


def _add_typing(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how molecules are read and typed."""
    add = group.add_argument
    add("--hydrogens", action=argparse.BooleanOptionalAction, default=True, help="keep the hydrogens of the files")
    add("--elements", metavar="C,N,...", help="elements with a channel of their own; the rest shares one")
    add("--typer", metavar="gnina|MODULE:NAME",
        help="gnina's channels, 14 of a ligand and 14 of a receptor (gnina-openbabel: with Open Babel's faults); "
        "or your function from a molecule")  # fmt: skip
    add("--skip-unknown", action="store_true", help="leave out dummy atoms and atoms of unknown elements")
    add("--record-limit", type=_mebibytes, default=256, metavar="MIB",
        help="largest size of a record, in MiB of text (default: %(default)s)")  # fmt: skip
    add("--flat", action="store_true", help="accept molecules with z = 0 for every atom")


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="type a library of molecules into a store",
        description="Type the molecules of SDF, MOL, MOL2, PDB or mmCIF files, plain or gzipped, into a store, on all "
        "cores. A run that was ended goes on where it was when the same command is given again; the store does not "
        "depend on the number of processes.",
    )
    prepare.set_defaults(run=_run_prepare)
    add = prepare.add_argument
    add("files", nargs="*", metavar="FILE", help="molecule file, with one or many records")
    add("--files-from", type=Path, metavar="LIST", help="file with a molecule file on each line; - for the input")
    add("--output", "-o", type=Path, required=True, metavar="STORE", help="folder of the store")

    group = prepare.add_argument_group("molecules")
    group.add_argument("--part", default="ligand", choices=("ligand", "receptor"),
                       help="which of gnina's channels (default: %(default)s)")  # fmt: skip
    _add_typing(group)

    group = prepare.add_argument_group("processes")
    add = group.add_argument
    add("--workers", type=int, metavar="N", help="processes (default: one for each core; with --ray one for each part)")
    add("--shard", type=_shard, default=(1, 1), metavar="I/N",
        help="write every N-th part only, beginning with the I-th, as one of N jobs that share the folder")  # fmt: skip
    add("--ray", metavar="ADDRESS", help="write the parts as tasks of the Ray cluster at this address")
    add("--part-records", type=int, default=1 << 17, metavar="N", help="records of a part (default: %(default)s)")


def _add_fit(commands: argparse._SubParsersAction) -> None:
    fit = commands.add_parser(
        "fit",
        help="find the atoms of a grid",
        description="Find the atoms whose density a .npz, .pt, .dx, .mrc, .map or .ccp4 file holds. The names of "
        "channels tell elements and radii where they are those of the element typer or of gnina's.",
    )
    fit.set_defaults(run=_run_fit)
    add = fit.add_argument
    add("grid", type=Path, metavar="GRID", help="grid file")
    add("--output", "-o", type=Path, required=True, metavar="OUT", help="molecule file: .sdf or .xyz")
    _add_overwrite(fit)
    add("--element", metavar="SYMBOL", help="element of the channels whose name tells none")
    add("--radius", type=float, metavar="A", help="radius of all atoms (default: by channel)")
    add("--atoms", type=int, metavar="N", help="number of atoms (default: as many as there are)")
    add("--min-distance", type=float, default=0.6, metavar="A",
        help="least distance of atoms of a channel when they are set (default: %(default)s)")  # fmt: skip
    add("--method", default="newton", choices=("newton", "lbfgs"), help="how atoms are moved (default: %(default)s)")
    add("--tail", choices=("quadratic", "quintic", "truncated"), help="how the Gaussian ends (default: as written)")
    add("--radius-scale", type=float, metavar="F", help="factor on every radius (default: as written)")
    add("--gaussian-radius-multiple", type=float, metavar="M", help="radii to the tail (default: as written)")


def _run_grid(arguments: argparse.Namespace) -> int:
    from gridgrad.cli.grid import run

    return run(arguments)


def _run_prepare(arguments: argparse.Namespace) -> int:
    from gridgrad.cli.prepare import run

    return run(arguments)


def _run_fit(arguments: argparse.Namespace) -> int:
    from gridgrad.cli.fit import run

    return run(arguments)


def _run_demo(arguments: argparse.Namespace) -> int:
    from gridgrad.cli.demo import run

    return run(arguments.output or Path("gridgrad-demo"), overwrite=arguments.overwrite or arguments.output is None)


def _run_info(arguments: argparse.Namespace) -> int:
    import gridgrad

    gridgrad.show_config()
    return 0
