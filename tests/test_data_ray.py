"""``gridgrad prepare --ray``: a cluster of two nodes on this machine, one of which is killed while it works."""

import threading
import time
from pathlib import Path

import pytest
from support.mol_data import cdk2, egfr

import gridgrad as gg
from gridgrad.cli import main
from gridgrad.data import AtomStore, prepare

ray = pytest.importorskip("ray", reason="ray is not installed (extra cluster)")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")


@pytest.fixture
def cluster():
    """A head without cores, and a node with one."""
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def slowly(molecule):
    """Type a molecule in no less than 10 ms, so that there is a middle to kill a node in."""
    time.sleep(0.01)
    return [0] * len(molecule), [1.5] * len(molecule), ("atom",)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_node_killed_in_the_middle_loses_and_doubles_nothing(cluster, tmp_path):
    files = [str(cdk2()), str(egfr())]
    prepare(files, tmp_path / "undisturbed", typer=slowly, workers=0, part_records=40)
    first, second = (cluster.add_node(num_cpus=1) for _ in range(2))
    cluster.wait_for_nodes()
    killed = []

    def kill():
        while len(list((tmp_path / "s").glob("part-*.json"))) < 3:
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)
        killed.append(len(list((tmp_path / "s").glob("part-*.json"))))

    killer = threading.Thread(target=kill)
    killer.start()
    done = prepare(files, tmp_path / "s", typer=slowly, workers=0, ray=cluster.address, part_records=40)
    killer.join()
    assert killed and killed[0] < done.header.n_parts == done.parts == 11
    assert contents(tmp_path / "s") == contents(tmp_path / "undisturbed")
    records = AtomStore(tmp_path / "s").table(["source", "record"]).to_pylist()
    assert len(records) == done.molecules == 412 == len({tuple(row.values()) for row in records})
    assert first in cluster.worker_nodes and second not in cluster.worker_nodes


def test_command(cluster, tmp_path, capsys):
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    assert main(["prepare", str(cdk2()), "-o", str(tmp_path / "s"), "--ray", cluster.address]) == 0
    assert "47 molecules" in capsys.readouterr().out and len(AtomStore(tmp_path / "s")) == 47


def test_grids_travel():
    """Ray pickles what a script holds by cloudpickle."""
    layer = gg.Coords2Grid(gg.GridMaker(resolution=0.5, dimension=7.5, tail="quintic"))
    assert ray.cloudpickle.loads(ray.cloudpickle.dumps(layer)).gm == layer.gm
