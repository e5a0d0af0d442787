"""A second clone takes up what the first pushed, from a folder and from S3, and computes only what it changes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import toy_graph
from moto.server import ThreadedMotoServer


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Options of a DVC remote; its address under `url`."""
    if request.param == "folder":
        yield {"url": str(tmp_path / "store")}
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="team")
    yield {"url": "s3://team/toy", "endpointurl": address}
    server.stop()


def test_a_second_clone_goes_on_where_the_first_pushed(remote: dict[str, str], tmp_path: Path) -> None:
    first = toy_graph.write(tmp_path / "first", {"push": None, "message": None, "deployments": {}})
    toy_graph.dvc("remote", "add", "-q", "-d", "team", remote["url"], at=first)
    for option in remote.keys() - {"url"}:
        toy_graph.dvc("remote", "modify", "-q", "team", option, remote[option], at=first)
    toy_graph.dvc("repro", "-q", at=first)
    toy_graph.run("git", "add", "-A", at=first)
    toy_graph.run("git", "commit", "-qm", "A run", at=first)
    toy_graph.dvc("push", "-q", at=first)

    toy_graph.run("git", "clone", "-q", str(first), "second", at=tmp_path)
    second = tmp_path / "second"
    assert "Running stage" not in toy_graph.dvc("repro", "--pull", at=second)
    assert (second / "e").read_bytes() == (first / "e").read_bytes()

    toy_graph.run(sys.executable, "-m", "instdiff.config", "f.value=0.6", at=second)
    said = toy_graph.dvc("repro", at=second)
    assert [line for line in said.splitlines() if line.startswith("Running stage")] == ["Running stage 'f':"]
