"""Fixtures of the numerical tests."""

import pytest
import torch
from hypothesis import settings
from support import browser

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
