"""Kubeconfigs and service accounts in their many forms."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from blixt_frontend.kubernetes.access import Access, AccessError, InCluster, Kubeconfig

SERVER = "https://api.example:6443"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


class Writer:
    """Writes a kubeconfig with one context, `here`."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.path = folder / "config"
        self.authority = base64.b64encode(authority.cert_pem.bytes()).decode()

    def __call__(self, user: dict[str, Any], **cluster: Any) -> Path:
        cluster = {"server": SERVER, "certificate-authority-data": self.authority, **cluster}
        context = {"cluster": "c", "user": "u"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }
        self.path.write_text(yaml.safe_dump(config))
        return self.path


@pytest.fixture
def write(tmp_path: Path, authority: trustme.CA) -> Writer:
    return Writer(tmp_path, authority)


def context_of(access: Access) -> ssl.SSLContext:
    assert access.tls is not None
    return access.tls


class TestKubeconfig:
    def test_a_token(self, write: Writer) -> None:
        access = Kubeconfig(write({"token": "t0k3n"})).load()
        assert (access.server, access.authorization) == (SERVER, "Bearer t0k3n")
        assert context_of(access).verify_mode is ssl.CERT_REQUIRED
        assert context_of(access).check_hostname
        assert len(context_of(access).get_ca_certs()) == 1
        assert "t0k3n" not in repr(access)

    def test_a_token_file_is_read_again(self, write: Writer, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("one\n")
        way = Kubeconfig(write({"tokenFile": "token"}))
        assert way.load().authorization == "Bearer one"
        (tmp_path / "token").write_text("two\n")
        assert way.load().authorization == "Bearer two"

    def test_a_client_certificate(self, write: Writer, authority: trustme.CA) -> None:
        leaf = authority.issue_cert("admin")
        user = {
            "client-certificate-data": base64.b64encode(leaf.cert_chain_pems[0].bytes()).decode(),
            "client-key-data": base64.b64encode(leaf.private_key_pem.bytes()).decode(),
        }
        way = Kubeconfig(write(user))
        first, again = way.load(), way.load()
        assert first.authorization == ""
        assert first.tls_digest == again.tls_digest != Kubeconfig(write({})).load().tls_digest

    def test_an_exec_plugin(self, write: Writer, tmp_path: Path) -> None:
        plugin = tmp_path / "plugin.py"
        version = "client.authentication.k8s.io/v1"
        status = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "made"}}
        plugin.write_text(f"print({json.dumps(status)!r})")
        user = {"exec": {"apiVersion": version, "command": sys.executable, "args": [str(plugin)]}}
        assert Kubeconfig(write(user)).load().authorization == "Bearer made"

    def test_a_context_by_name(self, write: Writer) -> None:
        path = write({"token": "t"})
        assert Kubeconfig(path, "here").load().authorization == "Bearer t"
        with pytest.raises(AccessError, match=r"can't be used: .*elsewhere"):
            Kubeconfig(path, "elsewhere").load()

    def test_what_the_cluster_says_of_tls_and_proxies(self, write: Writer) -> None:
        path = write({}, **{"tls-server-name": "kubernetes", "proxy-url": "http://proxy:3128"})
        access = Kubeconfig(path).load()
        assert (access.server_name, access.proxy) == ("kubernetes", "http://proxy:3128")
        access = Kubeconfig(write({}, **{"insecure-skip-tls-verify": True})).load()
        assert context_of(access).verify_mode is ssl.CERT_NONE

    def test_a_proxy_of_the_environment(self, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
        path = write({})
        assert Kubeconfig(path).load().proxy == "http://proxy:3128"
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,.example")
        assert Kubeconfig(path).load().proxy is None

    def test_plain_http(self, write: Writer) -> None:
        access = Kubeconfig(write({}, server="http://127.0.0.1:8001/")).load()
        assert (access.server, access.tls) == ("http://127.0.0.1:8001", None)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(AccessError, match=r"cannot read the kubeconfig .*/none: No such file"):
            Kubeconfig(tmp_path / "none").load()

    @pytest.mark.parametrize("text", ["", "[]", "{", "a: b", "clusters: 7", "current-context: x"])
    def test_a_file_that_is_no_kubeconfig(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config").write_text(text)
        with pytest.raises(AccessError, match=r"\Athe kubeconfig [^\n]*/config can't be used: [^\n]+\Z"):
            Kubeconfig(tmp_path / "config").load()


class TestInCluster:
    def test_the_service_account(
        self, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        (tmp_path / "token").write_text("one")
        package = "kubernetes.config.incluster_config"
        monkeypatch.setattr(f"{package}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(f"{package}.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        access = InCluster().load()
        assert (access.server, access.authorization.lower()) == ("https://[fd00::1]:443", "bearer one")
        (tmp_path / "token").write_text("two")
        assert InCluster().load().authorization.lower() == "bearer two"

    def test_outside_of_a_pod(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(AccessError, match="the pod's service account can't be used"):
            InCluster().load()
