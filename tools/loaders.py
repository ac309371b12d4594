"""Adapters of the loaders that ``compare_loaders.py`` compares, and the process that times one of them.

    python tools/loaders.py NAME THREADS        reads questions as lines of JSON, answers in the same way

This file imports nothing of gridgrad but in the adapters of gridgrad itself, so it runs in libmolgrid's environment.
"""

import contextlib
import pathlib
import sys
import time

from peers import NotOfferedError, measure, serve

BATCH = 64
CHANNELS = {"complexes": 28, "ligands": 14}
RESOLUTION, DIMENSION, POINTS = 0.5, 23.5, 48
TRANSLATION = 2.0
SEED = 7


class Loader:
    """One package. A method named after a pass returns the function that is timed: it makes one batch."""

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(SEED)
        self.torch = torch
        self.open()

    def open(self):
        """Import the package."""

    def load(self, folder):
        self.folder, self.ready = pathlib.Path(folder), {}

    def batches(self, kind, **options):
        """Return the function that gives the next batch, with the caches warm: after an epoch."""
        key = kind, *sorted(options.items())
        if key not in self.ready:
            self.ready[key], length = self.begin(kind, **options)
            for _ in range(length):
                self.ready[key]()
        return self.ready[key]

    def pointers(self, kind):
        raise NotOfferedError("not offered")

    tensors = workers = pointers

    def out(self, kind):
        return self.torch.empty(BATCH, CHANNELS[kind], POINTS, POINTS, POINTS).zero_()


class Libmolgrid(Loader):
    """Its provider with its caches. Examples are merged and moved one by one, as the interface has it."""

    def open(self):
        import molgrid

        molgrid.set_gpu_enabled(False)
        molgrid.set_random_seed(SEED)
        self.package = molgrid
        self.gridmaker = molgrid.GridMaker(resolution=RESOLUTION, dimension=DIMENSION)

    def provider(self, table, **settings):
        provider = self.package.ExampleProvider(data_root=str(self.folder), default_batch_size=BATCH, **settings)
        provider.populate(str(self.folder / table))
        return provider

    def begin(self, kind):
        caches = [str(self.folder / f"{name}.molcache2") for name in ("receptors", "ligands")]
        order = {"shuffle": True, "balanced": True}
        if kind == "complexes":
            provider = self.provider("complexes.types", recmolcache=caches[0], ligmolcache=caches[1], **order)
        else:  # the first molecule of a line is a receptor for it
            typer = self.package.defaultGninaLigandTyper
            provider = self.package.ExampleProvider(
                typer, data_root=str(self.folder), default_batch_size=BATCH, recmolcache=caches[1], **order
            )
            provider.populate(str(self.folder / "ligands.types"))
        return provider.next_batch, 2 * provider.size() // BATCH

    pointers = Loader.batches

    def tensors(self, kind):
        batch = self.batches(kind)

        def run():
            arrays = []
            for example in batch():
                merged = example.merge_coordinates()
                move = self.package.Transform(example.coord_sets[-1].center(), TRANSLATION, True)
                move.forward(merged, merged)
                arrays.append((merged.coords.tonumpy(), merged.type_index.tonumpy(), merged.radii.tonumpy()))
            return arrays

        return run

    def grids(self, kind):
        batch, out = self.batches(kind), self.out(kind)

        def run():
            self.gridmaker.forward(batch(), out, TRANSLATION, True)

        return run

    def checked(self, source):
        """Return the grids of some complexes, not moved."""
        caches = {"recmolcache": "receptors.molcache2", "ligmolcache": "ligands.molcache2"}
        caches = {key: str(self.folder / name) for key, name in caches.items()} if source == ".molcache2" else {}
        provider = self.provider("checked.types", **caches)
        grids = self.torch.zeros(provider.size(), 28, POINTS, POINTS, POINTS)
        self.gridmaker.forward(provider.next_batch(provider.size()), grids)
        return grids


class Gridgrad(Loader):
    """A ComplexDataset over stores, in gridgrad's loader."""

    def open(self):
        import gridgrad

        self.package = gridgrad
        self.gridmaker = gridgrad.GridMaker(RESOLUTION, DIMENSION)

    source = "store"

    def store(self, part, names, source):
        data, typer = self.package.data, self.package.mol.GninaTyper(part)
        if source == ".molcache2":
            return data.read_molcache2(self.folder / f"{part}s.molcache2", typer)
        return (
            data.AtomStore(self.folder / f"{part}s")
            if source == "store"
            else data.GninaTypesFiles(names, self.folder, typer)
        )

    def dataset(self, name, source, transform=None):
        data = self.package.data
        table = data.read_types(self.folder / name)
        stores = {part: self.store(part, names, source) for part, names in table.names.items()}
        labels = {"active": table.labels[:, 0].astype(int)}
        rows = table.rows(stores)
        return data.ComplexDataset(stores, rows, labels, grid=self.gridmaker, transform=transform)

    def begin(self, kind, workers=0):
        data = self.package.data
        dataset = self.dataset(f"{kind}.types", self.source, data.RandomRigid(TRANSLATION, within="box"))
        sampler = data.BalancedSampler(dataset.labels["active"], seed=SEED)
        options = {"num_workers": workers, "persistent_workers": workers > 0}
        loader = data.DataLoader(dataset, batch_size=BATCH, sampler=sampler, drop_last=True, **options)

        def forever():
            while True:
                yield from loader

        iterator = forever()
        return lambda: next(iterator), len(loader)

    tensors = Loader.batches

    def workers(self, kind, workers):
        return self.batches(kind, workers=workers)

    def grids(self, kind):
        batch, out = self.batches(kind), self.out(kind)

        def run():
            atoms = batch()
            arrays = atoms.center, atoms.coords, atoms.types, atoms.radii
            self.gridmaker.forward(*arrays, CHANNELS[kind], out, atoms.batch, BATCH)

        return run

    def layer(self, kind):
        """Return the function that makes new grids, as a network takes them."""
        batch, layer = self.batches(kind), self.package.Coords2Grid(self.gridmaker, n_types=CHANNELS[kind])
        return lambda: layer(batch())

    def zeros(self, kind):
        """Return the floor under the grids: the same output set to zero."""
        return self.out(kind).zero_

    def new_zeros(self, kind):
        """Return the floor under new grids: memory whose pages the system has to give first."""
        return lambda: self.torch.zeros(BATCH, CHANNELS[kind], POINTS, POINTS, POINTS).zero_()

    def checked(self, source):
        dataset = self.dataset("checked.types", source)
        return self.package.Coords2Grid(self.gridmaker, n_types=28)(dataset.__getitems__(range(len(dataset))))

    def kept(self, kind):
        """Return the mean number of atoms of an example."""
        batch = self.batches(kind)
        return float(self.torch.cat([batch().n_atoms for _ in range(40)]).double().mean())


class GridgradCaches(Gridgrad):
    """The same over gnina's caches."""

    source = ".molcache2"


LOADERS = {"libmolgrid": Libmolgrid, "gridgrad": Gridgrad, "gridgrad, .molcache2": GridgradCaches}


class Answers:
    """The answers of one package: the seconds of a batch, values, or a number."""

    def __init__(self, loader):
        self.loader, self.folder = loader, None

    def __call__(self, question):
        if self.folder != question["folder"]:
            self.folder = question["folder"]
            self.loader.load(self.folder)
        method = getattr(self.loader, question["pass"])
        result = method(*question["arguments"])
        if question["pass"] == "checked":
            self.loader.torch.save(result, question["file"])
            return {}
        if isinstance(result, float):
            return {"value": result}
        return {"seconds": measure(result, question["budget"], getattr(time, question["clock"]))}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve(lambda: Answers(LOADERS[sys.argv[1]](int(sys.argv[2]))))
