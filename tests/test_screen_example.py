"""examples/screen.py: scores of all rows, once each, however the run was disturbed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.random_poses import write_poses

pytest.importorskip("tqdm")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra data)")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import pose_gradients

    return pose_gradients


@pytest.fixture
def folders(problem, tmp_path):
    """Complexes, and a network that was not trained."""
    write_poses(tmp_path / "poses")
    (tmp_path / "run").mkdir()
    torch.manual_seed(0)
    torch.save({"score": problem.Score().state_dict()}, tmp_path / "run" / "checkpoint.pt")
    return tmp_path


def start(folders, *options):
    places = folders / "poses", folders / "run", "--output", folders / "scores"
    words = [str(word) for word in (sys.executable, EXAMPLES / "screen.py", *places, "--part", 5, *options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, status=0):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors[-3000:]
    return output + errors


def parts(folders):
    return sorted((folders / "scores").glob("part-*.parquet"))


def assert_complete(problem, folders):
    """Each row has its score, once, and it is the network's."""
    table = parquet.read_table(folders / "scores").sort_by("row")
    assert table.column("row").to_pylist() == list(range(48))
    data = [problem.complexes(folders / "poses", held_out) for held_out in (True, False)]
    score = problem.Score()
    score.load_state_dict(torch.load(folders / "run" / "checkpoint.pt", weights_only=True)["score"])
    found = dict(zip(table.column("ligand").to_pylist(), table.column("score").to_pylist()))
    for some in data:
        batch = some.__getitems__(range(len(some)))
        with torch.no_grad():
            expected = score(batch)
        assert np.allclose([found[name] for name in batch.names], expected, atol=1e-5)
    lines = [line.split()[-2:] for line in (folders / "poses" / "poses.types").read_text().splitlines()]
    assert lines == [list(pair) for pair in zip(*(table.column(name).to_pylist() for name in ("receptor", "ligand")))]


def test_killed_and_resumed(problem, folders):
    process = start(folders)
    deadline = time.monotonic() + 60
    while len(parts(folders)) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in parts(folders)}
    assert 2 <= len(done) < 10
    assert f"{10 - len(done)} parts scored, 0 missing" in finish(start(folders))
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert_complete(problem, folders)

    torch.save({"score": problem.Score().state_dict()}, folders / "run" / "checkpoint.pt")
    assert "scores with another network; expected the same" in finish(start(folders), status=1)


def test_a_node_killed_on_ray(problem, folders):
    """Two nodes, one of which is lost in the middle."""
    ray = pytest.importorskip("ray", reason="ray is not installed (extra cluster)")
    pytest.importorskip("pandas", reason="pandas is not installed, which Ray Data needs")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        _, second = (cluster.add_node(num_cpus=2) for _ in range(2))
        cluster.wait_for_nodes()
        process = start(folders, "--ray", cluster.address, "--actors", "2", "--part", "1")
        killed = []

        def kill():
            while len(parts(folders)) < 3 and process.poll() is None:
                time.sleep(0.005)
            cluster.remove_node(second, allow_graceful=False)
            killed.append(len(parts(folders)))

        killer = threading.Thread(target=kill)
        killer.start()
        output = finish(process)
        killer.join()
        assert killed and 3 <= killed[0] < 48
        assert "48 parts scored, 0 missing" in output
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert_complete(problem, folders)
