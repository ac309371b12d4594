"""Headless Chromium for the tests that look at pages."""

import functools
import shutil
import subprocess
import tempfile

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
QUIET = (
    "--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-quic", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip


def browse(address, *options, limit=120):
    """Open a page with a new profile, with every host but this one unreachable.

    Parameters
    ----------
    address : str
        Of the page.
    *options : str
        Of Chromium.
    limit : float
        Seconds.

    Returns
    -------
    subprocess.CompletedProcess
        With what Chromium printed and logged.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        return subprocess.run(
            [
                CHROMIUM, *QUIET, f"--user-data-dir={profile}",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", *options, address,
            ],
            capture_output=True, text=True, timeout=limit, check=True,
        )  # fmt: skip


@functools.cache
def missing():
    """Say why no page can be opened here; None where one can."""
    if CHROMIUM is None:
        return "needs chromium to open the page"
    try:
        browse("about:blank", "--disable-gpu", "--dump-dom", limit=60)
    except subprocess.SubprocessError as error:
        return f"chromium does not open an empty page here: {error}"
    return None
