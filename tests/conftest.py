"""Fixtures of the tests."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # OpenMP's threads leave their cores to other work when they wait long

import pytest
import torch
from cuda_on_cpu import standin
from hypothesis import settings
from support import browser

from gridgrad.kernels.gpu import cubins, device, driver

settings.register_profile("gridgrad", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("gridgrad")


@pytest.fixture(autouse=True)
def dispatch_keys():
    """Fail the test that leaves torch's dispatcher in another state, and not the hundreds after it."""
    before = _dispatch_keys()
    yield
    assert _dispatch_keys() == before


def _dispatch_keys():
    return str(torch._C._dispatch_tls_local_include_set()), str(torch._C._dispatch_tls_local_exclude_set())


@pytest.fixture
def threads():
    """Function that sets the number of threads of torch; the old one comes back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def chromium():
    """Skip where Chromium is missing or does not work."""
    if browser.missing():
        pytest.skip(browser.missing())


@pytest.fixture(scope="module", params=driver.NAMES)
def through(request):
    """A driver that launches on the stand-in, with kernels compiled for the CPU instead of cubins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cubins, "cubin", standin.image)
        patch.setenv("GRIDGRAD_CUDA_DRIVER", request.param)
        try:
            yield driver.driver()
        except ImportError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def devices(through):
    """Both devices of the stand-in."""
    return [device.Device(ordinal, through) for ordinal in range(2)]


@pytest.fixture
def journal():
    """What the stand-in is asked to do from here on."""
    return standin.Journal()
