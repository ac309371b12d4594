"""Time of each order of differentiation on each workload."""

from .workloads import DEVICES, DTYPES, PASSES, WORKLOADS, prepare


class Orders:
    """Time of one pass."""

    params = (PASSES, tuple(WORKLOADS), DTYPES, DEVICES)
    param_names = ("pass", "workload", "dtype", "device")
    repeat = (3, 100, 1.0)

    def setup(self, name, workload, dtype, device):
        self.run = prepare(name, workload, dtype, device)

    def time_order(self, name, workload, dtype, device):
        self.run()
