"""Runs the tests of uploads and files that OpenAI generates for its Python SDK, against Windlass.

They are in the source distribution of the installed `openai`, which pip downloads once into WINDLASS_SDK_CACHE.
WINDLASS_BASE_URL and WINDLASS_API_KEY name the server; requests go through the proxy of `fixture_shim.py`.
Prints the last line of pytest's output (all of it if a test failed), and exits with pytest's status.
"""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from fixture_shim import fixture_shim

SUITES = [
    # These send HTTP requests.
    "tests/api_resources/test_uploads.py",
    "tests/api_resources/uploads/test_parts.py",
    "tests/api_resources/test_files.py",
    # These test the SDK's upload helpers without a server.
    "tests/lib/test_uploads.py",
    "tests/lib/test_upload_runtime.py",
    "tests/lib/test_file_processing.py",
]
# Overrides the SDK's configuration, which requires plugins and limits that are not needed here.
PYTEST_OPTIONS = ["asyncio_mode=auto", "asyncio_default_fixture_loop_scope=session", "addopts=", "filterwarnings="]


def fetch_sdist(cache):
    """The source distribution of the installed SDK, from the cache or the package index."""
    sdk = f"openai-{version('openai')}"
    sdist = cache / f"{sdk}.tar.gz"
    if not sdist.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as fresh:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--no-binary=openai", "--dest", fresh, sdk.replace("-", "==")], check=True)
            (Path(fresh) / sdist.name).replace(sdist)
    return sdist


def unpack_tests(sdist, folder):
    """Unpacks everything but `src`: the installed SDK is tested."""
    root = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        # Debian 12's Python does not have the argument `filter` yet.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder, [it for it in archive if not it.name.startswith(f"{root}/src/")])
    return folder / root


def main():
    with TemporaryDirectory() as folder:
        cache = Path(os.environ.get("WINDLASS_SDK_CACHE", folder))
        root = unpack_tests(fetch_sdist(cache), Path(folder))
        suites = [it for it in SUITES if (root / it).exists()]
        options = [word for option in PYTEST_OPTIONS for word in ("-o", option)]
        with fixture_shim(os.environ["WINDLASS_BASE_URL"], os.environ["WINDLASS_API_KEY"]) as base_url:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *options, *suites],
                cwd=root,
                env={**os.environ, "TEST_API_BASE_URL": base_url},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
    lines = run.stdout.splitlines()
    print(*(lines if run.returncode else lines[-1:]), sep="\n")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
