"""Make asv's published pages independent of the network.

asv's pages load jQuery, Flot, Bootstrap and a few more from content delivery networks. ``vendor_page`` fetches the
same libraries once from the npm registry, at the versions and with the checksums written below, keeps them in
``.assets/`` beside this file, and points the page at local copies.
"""

import base64
import hashlib
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile

CACHE = pathlib.Path(__file__).parent / ".assets"

PACKAGES = {
    "jquery@3.3.1": "Ubldcmxp5np52/ENotGxlLe6aGMvmF4R8S6tZjsP6Knsaxd/xp3Zrh50cG93lR6nPXyUFwzN3ZSOQI0wRJNdGg==",
    "flot@0.8.3": "xg2otcTJDvS+ERK+my4wxG/ASq90QURXtoM4LhacCq0jQW2jbyjdttbRNqU2cPykrpMvJ6b2uSp6SAgYAzj9tQ==",
    "flot-orderbars@1.0.0": "Jv51fvzevUjNXEeozpwEKfPjhiZhfiJddv0WHjduUTCmSF+7T5K7C9c9Y1wIVmUhDBv5fLMjgbwKecT0GIKPZA==",
    "stupid-table-plugin@1.1.3": "2Vk7XouQPxUQPRe9w0Fu7ZZ8kHLK7rDoLMsCgtKxRNJ7f4dSOGvW9CkHsq5wD6QsaEnWoyLBYH3xOEsrK3yWBg==",
    "blueimp-md5@2.19.0": "DRQrD6gJyy8FbiE4s+bDoXS9hiW3Vbx5uCdwvcCf3zLHL+Iv7LtGHLpr+GZV8rHG8tK766FGYBwRbu8pELTt+w==",
    "bootstrap@3.1.1": "TAzqS8E/ISpVHP29gYhy+1NSV+FJwApDVQhDfgLYsIuUDJiqJzH2DfORN5tiu+Ie2iBLrzEG34t4Rf465cigqg==",
}

# file name in asv's page, without ".min": npm package and the file in it
FILES = {
    "jquery-3.3.1.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}

REMOTE_TAG = re.compile(r'<(?P<kind>script|link)\b[^>]*?\b(?:src|href)="(?P<url>(?:https?:)?//[^"]+)"[^>]*>')


class AssetError(RuntimeError):
    """A library that asv's pages need could not be had."""


def fetch_assets(cache=CACHE):
    """Fill the cache with every file in ``FILES``; with a full cache nothing is fetched.

    Raises
    ------
    AssetError
        If npm is missing, fails, or delivers a package with another checksum.
    """
    missing = {name: source for name, source in FILES.items() if not (cache / name).exists()}
    if not missing:
        return cache
    npm = shutil.which("npm")
    if npm is None:
        raise AssetError("npm: not found on the PATH; it fetches the libraries of asv's pages, once")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package in sorted({package for package, _ in missing.values()}):
            archive = _pack(npm, package, pathlib.Path(folder))
            with tarfile.open(archive) as content:
                for name, (source, member) in missing.items():
                    if source == package:
                        (cache / name).write_bytes(content.extractfile(f"package/{member}").read())
    return cache


def _pack(npm, package, folder):
    before = set(folder.iterdir())
    done = subprocess.run([npm, "pack", "--silent", package], check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise AssetError(f"npm pack {package} failed: {done.stderr.strip()[-500:]}")
    (archive,) = set(folder.iterdir()) - before
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != PACKAGES[package]:
        raise AssetError(f"{package}: sha512 {found}, expected {PACKAGES[package]}")
    return archive


def vendor_page(page, cache=CACHE):
    """Rewrite ``page`` to load its libraries from ``vendor/`` beside it, and copy them there.

    Raises
    ------
    AssetError
        If the page loads a library that ``FILES`` does not know.
    """
    fetch_assets(cache)
    folder = page.parent / "vendor"
    folder.mkdir(exist_ok=True)

    def local(tag):
        name = tag["url"].rsplit("/", 1)[-1].replace(".min.", ".")
        if name not in FILES:
            raise AssetError(f"{page.name} loads {tag['url']}, for which no npm package is known")
        shutil.copyfile(cache / name, folder / name)
        if tag["kind"] == "script":
            return f'<script src="vendor/{name}" onerror="js_load_failure()">'
        return f'<link rel="stylesheet" href="vendor/{name}">'

    page.write_text(REMOTE_TAG.sub(local, page.read_text()))
