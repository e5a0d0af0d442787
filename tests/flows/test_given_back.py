"""What is taken is given back when what it was taken for fails: the tree's lock, the port of the reports."""

import socket
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from flows.graph import tree
from flows.serving import pages, server

MD5 = "0123456789abcdef0123456789abcdef"


class Failed(Exception):
    pass


def test_the_tree_is_free_again_after_a_run_that_failed(tmp_path: Path) -> None:
    lock = tmp_path / "flow.lock"
    for number in range(2):
        with pytest.raises(Failed), tree.held(f"run {number}", pytest.fail, lock):
            raise Failed


def test_the_port_of_the_reports_is_free_again_and_every_time_it_serves_what_is_there(tmp_path: Path) -> None:
    address = server.address(server._free())
    page = tmp_path / "files" / "md5" / MD5[:2] / MD5[2:]
    page.parent.mkdir(parents=True)
    for content in ("one", "two"):
        page.write_text(content)
        with pytest.raises(Failed), pages.serving(address, tmp_path):  # noqa: PT012
            with urlopen(f"{address}/{MD5}", timeout=20) as answer:
                assert answer.read() == content.encode()
                assert answer.headers["Content-Length"] == "3"
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
                policy = "default-src 'unsafe-inline' data:; frame-ancestors 'none'"
                assert answer.headers["Content-Security-Policy"] == policy
            for other in ("", "/", f"/{MD5[:-1]}", f"/{MD5}0", f"/{MD5.upper()}", f"/x/{MD5}", f"/{'f' * 32}"):
                with pytest.raises(HTTPError) as refused:
                    urlopen(f"{address}{other or '/'}", timeout=20)
                assert refused.value.code == 404
            raise Failed
        with socket.socket() as probe:
            assert probe.connect_ex((server.HOST, server.Access(address, "").port)) != 0
