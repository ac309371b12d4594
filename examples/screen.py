"""Score complexes with a trained network: in this process, or on a Ray cluster with an actor for each GPU or core.

Complexes are the rows of a `.types` table over two stores, as `tools/make_poses.py` leaves them. They are scored in
parts. Each part becomes a Parquet file, which appears when it is whole: a run that was ended goes on with the parts
that are missing, and a part that is begun again, because its node was lost, is there once. The folder is a Parquet data
set: `pandas.read_parquet("scores")`.

    python examples/screen.py poses runs/gradient -o scores
    python examples/screen.py poses runs/gradient -o scores --ray auto --actors 8
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pose_gradients import GRID, REACH, Score
from tqdm import tqdm

from gridgrad.data import AtomStore, ComplexDataset, read_types
from gridgrad.io.writers import atomic_files


class Scorer:
    """A network, the complexes and where the scores go; on a cluster an actor that Ray Data gives numbers of parts."""

    def __init__(self, poses, checkpoint, output, rows_of_part):
        self.output, self.rows_of_part = output, rows_of_part
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.table = read_types(poses / "poses.types")
        stores = {part: AtomStore(poses / f"{part}s.store") for part in ("receptor", "ligand")}
        rows = self.table.rows(stores)
        self.data = ComplexDataset(stores, rows, grid=GRID, transform=REACH, apply_transform=False)
        self.score = Score().to(self.device)
        self.score.load_state_dict(torch.load(checkpoint, weights_only=True, map_location=self.device)["score"])

    def part(self, number, batch_size=32):
        """Score the rows of a part, write them."""
        start = number * self.rows_of_part
        rows = range(start, min(start + self.rows_of_part, len(self.data)))
        scores = []
        with torch.no_grad():
            for first in range(rows.start, rows.stop, batch_size):
                batch = self.data.__getitems__(range(first, min(first + batch_size, rows.stop))).to(self.device)
                scores += self.score(batch).tolist()
        columns = {"row": list(rows), "score": pa.array(scores, pa.float32())}
        for part, names in self.table.names.items():
            columns[part] = [names[i] for i in self.table.index[part][rows.start : rows.stop]]
        with atomic_files([part_file(self.output, number)], sync=True) as (temporary,):
            pq.write_table(pa.table(columns), temporary)

    def __call__(self, batch):
        """Score the parts of a batch of Ray Data."""
        for number in batch["id"].tolist():
            self.part(number)
        return batch


def part_file(output, number):
    """Return where the scores of a part are."""
    return output / f"part-{number:06d}.parquet"


def begin(options):
    """Make the folder, with a copy of the network, or see that it is of the same network, table and parts."""
    files = {"table": options.poses / "poses.types", "network": options.run / "checkpoint.pt"}
    settings = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    settings["rows of a part"] = options.part
    options.output.mkdir(parents=True, exist_ok=True)
    path, network = options.output / "_settings.json", options.output / "_network.pt"
    if not path.exists():
        with atomic_files([network, path]) as (copy, temporary):
            shutil.copyfile(files["network"], copy)
            temporary.write_text(json.dumps(settings, indent=1) + "\n")
    found = json.loads(path.read_text())
    if found != settings:
        other = ", ".join(name for name in settings if found.get(name) != settings[name])
        raise SystemExit(f"{options.output}: scores with another {other}; expected the same, or another --output")
    return network


def missing_parts(options):
    """Return the numbers of parts that are not there."""
    n_parts = -(-len(read_types(options.poses / "poses.types")) // options.part)
    return [number for number in range(n_parts) if not part_file(options.output, number).exists()]


def on_ray(options, arguments, missing):
    """Score parts by actors; Ray begins again what was lost with a node."""
    import ray
    from screen import Scorer  # by the name of its module, so that actors import it

    ray.init(options.ray, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})
    gpus = int(ray.cluster_resources().get("GPU", 0)) > 0
    parts = ray.data.from_items([{"id": number} for number in missing], override_num_blocks=len(missing))
    scored = parts.map_batches(
        Scorer, fn_constructor_args=arguments, batch_size=1, concurrency=options.actors, num_gpus=1 if gpus else None,
        num_cpus=None if gpus else 1,
    )  # fmt: skip
    return scored.count()


def main():
    """Score what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("poses", type=Path, help="folder with poses.types, receptors.store and ligands.store")
    parser.add_argument("run", type=Path, help="folder that train.py wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the scores")
    parser.add_argument("--part", type=int, default=4096, help="rows of a part")
    parser.add_argument("--ray", metavar="ADDRESS", help="address of a Ray cluster whose nodes see the folders")
    parser.add_argument("--actors", type=int, default=1, help="actors on the cluster, each on a GPU or a core")
    options = parser.parse_args()
    for name in ("poses", "run", "output"):
        setattr(options, name, getattr(options, name).resolve())
    arguments = options.poses, begin(options), options.output, options.part
    missing = missing_parts(options)
    if options.ray and missing:
        on_ray(options, arguments, missing)
    elif missing:
        scorer = Scorer(*arguments)
        for number in tqdm(missing, unit="part", disable=None):
            scorer.part(number)
    left = missing_parts(options)
    print(f"{options.output}: {len(missing) - len(left)} parts scored, {len(left)} missing")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
