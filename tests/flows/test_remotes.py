"""A second clone takes up what the first pushed, to a folder, by ssh or to S3, and computes only what it changes."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import boto3
import pytest
import toy_graph
from moto.server import ThreadedMotoServer


@contextmanager
def ssh(home: Path) -> Iterator[int]:
    """A server that gives its files to whoever has the key of this home; yield its port."""
    (home / ".ssh").mkdir(parents=True)
    host, person = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    person.write_private_key(home / ".ssh" / "id_ed25519")
    person.write_public_key(home / ".ssh" / "authorized")
    loop = asyncio.new_event_loop()
    listening = asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        authorized_client_keys=str(home / ".ssh" / "authorized"),
        sftp_factory=True,
        allow_scp=True,
    )
    server = loop.run_until_complete(listening)
    port = server.get_port()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    serving = threading.Thread(target=loop.run_forever, daemon=True)
    serving.start()
    yield port
    loop.call_soon_threadsafe(loop.stop)
    serving.join()
    server.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(params=["folder", "ssh", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Options of a DVC remote; its address under `url`."""
    if request.param == "folder":
        yield {"url": str(tmp_path / "store")}
        return
    if request.param == "ssh":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        with ssh(tmp_path / "home") as port:
            key = str(tmp_path / "home" / ".ssh" / "id_ed25519")
            yield {"url": f"ssh://me@127.0.0.1:{port}{tmp_path}/store", "keyfile": key}
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
    output = toy_graph.dvc("repro", at=second)
    assert [line for line in output.splitlines() if line.startswith("Running stage")] == ["Running stage 'f':"]
