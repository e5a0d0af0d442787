"""Published files and their SHA-256, by the name they are published under."""

import hashlib
import re
from pathlib import Path

SHA256 = {
    "v1-5-pruned-emaonly.safetensors": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    "v1-5-pruned-emaonly.ckpt": "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516",
}
_HUB = re.compile(r".+-([0-9a-f]{8})\.pth")  # torch's hub writes the start of the hash into the name


def checked(path: Path) -> dict[str, str]:
    """SHA-256 of the file, or of each file below the folder, by name; ValueError where a known name holds another."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return {one.relative_to(path.parent).as_posix(): _checked(one) for one in files}


def _checked(path: Path) -> str:
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    hub = _HUB.fullmatch(path.name)
    wanted = SHA256.get(path.name) or (hub[1] if hub else "")
    if not found.startswith(wanted):
        raise ValueError(f"{path}: is not the file published under this name: SHA-256 {found}, not {wanted}")
    return found
