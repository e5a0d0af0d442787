"""Where a number comes from: hashes of what it was computed on, and the versions that computed it."""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "instdiff",
    "torch",
    "diffusers",
    "transformers",
    "ultralytics",
    "pycocotools",
    "numpy",
    "pandas",
    "pillow",
)


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def of_folder(folder: Path) -> str:
    """SHA-256 of the names and bytes of all files below the folder; ValueError when there is none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ValueError(f"{folder}: no files")
    lines = [f"{path.relative_to(folder).as_posix()} {of_file(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
