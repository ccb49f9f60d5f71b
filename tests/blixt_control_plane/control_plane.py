"""A real control plane on loopback: etcd, the API server with RBAC and the controllers, and kubectl."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from blixt_control_plane import certificates, components, homes, kubeconfig
from blixt_control_plane.api import Api, ApiError
from blixt_control_plane.audit import Audit
from blixt_control_plane.certificates import KeyPair
from blixt_control_plane.component import Component
from blixt_control_plane.components import Layout, Ports
from blixt_control_plane.etcd import Etcd
from blixt_control_plane.place import HERE, LOOPBACK, Place
from blixt_control_plane.processes import end_all
from blixt_control_plane.programs import Bundle, Programs, find_programs
from blixt_lab.wait import wait_for


class KubectlError(Exception):
    """kubectl failed; what it wrote to stderr."""


class ControlPlane:
    """One control plane in a folder of its own. `control_plane()` makes one that is gone afterwards."""

    def __init__(
        self,
        home: Path,
        *,
        place: Place = HERE,
        programs: Programs | None = None,
        arguments: Mapping[str, list[str]] | None = None,
    ) -> None:
        """`arguments`: more of them for a program, by its name: kube-apiserver's `--goaway-chance=0.02`."""
        self.home = home
        self.place = place
        self.programs = programs or find_programs()
        ports = Ports(*place.free_ports(len(fields(Ports))))
        self.layout = layout = Layout(home, ports, certificates.issue(home / "pki", LOOPBACK))
        self.audit = Audit(layout.audit_log)
        self._more = arguments or {}
        issued = layout.certificates
        self.etcd = Etcd(self._api(ports.etcd, issued.etcd_client))
        self.etcd_server = self._component(
            "etcd", components.etcd(layout), self._api(ports.etcd, issued.etcd_client, 5), "/health"
        )
        self.api_server = self._component(
            "kube-apiserver", components.api_server(layout), self._api(ports.api, issued.admin, 5), "/readyz"
        )
        self.controller_manager = self._component(
            "kube-controller-manager",
            components.controller_manager(layout),
            self._api(ports.controller_manager, None, 5),
            "/healthz",
        )
        self.kubeconfig = self._kubeconfig(layout.admin_kubeconfig, issued.admin)
        self._kubeconfig(layout.manager_kubeconfig, issued.controller_manager)
        layout.audit_policy.write_text(components.AUDIT_POLICY)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.layout.server

    @property
    def components(self) -> tuple[Component, ...]:
        """In the order in which they are started."""
        return self.etcd_server, self.api_server, self.controller_manager

    def start(self) -> None:
        """Start all, and wait until the controllers work. Raises ComponentError and WaitTimeoutError."""
        for component in self.components:
            component.start()
        self.wait_for_namespace("default")

    def end(self) -> None:
        """SIGKILL to all. The folder stays."""
        end_all(self.home)

    # --- using it ---

    def api(self, user: KeyPair | str | None = None, timeout: float = 30) -> Api:
        """A new connection to the API server: the admin's, or that of a certificate or token."""
        return self._api(self.layout.ports.api, user or self.layout.certificates.admin, timeout)

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """What kubectl writes to stdout. As the admin, or as a kubeconfig's user. Raises KubectlError."""
        argv = self.place.argv([str(self.programs.path("kubectl")), *arguments])
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "KUBECONFIG": str(kubeconfig or self.kubeconfig),
        }
        done = subprocess.run(
            argv, input=stdin or "", env=environment, capture_output=True, text=True, check=False, timeout=100
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifests: str | Path | Mapping[str, Any] | list[dict[str, Any]], *arguments: str) -> str:
        """`kubectl apply`, server-side, of YAML text, a file or folder, or objects. Raises KubectlError."""
        if isinstance(manifests, Path):
            return self.kubectl("apply", "--server-side", "-f", str(manifests), *arguments)
        if not isinstance(manifests, str):
            objects = manifests if isinstance(manifests, list) else [dict(manifests)]
            manifests = yaml.safe_dump_all(objects)
        return self.kubectl("apply", "--server-side", "-f", "-", *arguments, stdin=manifests)

    def patch_status(
        self, kind: str, name: str, status: Mapping[str, Any], namespace: str = "default"
    ) -> None:
        """Merge into an object's status, as its controller would."""
        patch = yaml.safe_dump({"status": dict(status)})
        self.kubectl(
            "patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
        )  # fmt: skip

    def namespace(self, name: str) -> str:
        """Make a namespace in which pods can be made; its name."""
        self.api().post("/api/v1/namespaces", {"metadata": {"name": name}})
        self.wait_for_namespace(name)
        return name

    def wait_for_namespace(self, name: str) -> None:
        """Until the controllers have made what pods need in it."""
        api = self.api()

        def has_account() -> bool:
            try:
                return bool(api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
            except ApiError:
                return False

        wait_for(has_account, f"the controllers to make namespace {name}'s default ServiceAccount", 60)

    def delete_namespace(self, name: str) -> None:
        """Begin to delete it, and all that is in it."""
        self.api().delete(f"/api/v1/namespaces/{name}")

    def token(self, namespace: str, service_account: str) -> str:
        """A token for a ServiceAccount that exists, good for a day. Raises ApiError."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        made = self.api().post(path, {**request, "spec": {"expirationSeconds": 86400}})
        return str(made["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path | None = None) -> Path:
        """A kubeconfig with a token for a ServiceAccount that exists: it may do what RBAC gives it.

        Raises ApiError.
        """
        path = path or self.home / f"{namespace}.{name}.kubeconfig"
        return self._kubeconfig(path, self.token(namespace, name))

    # --- CRDs ---

    def install(self, bundle: Bundle) -> None:
        """Install a release of the Gateway API, as its manifest does; returns once all is served."""
        files = [f"--filename={path}" for path in bundle.files()]
        # The policy of a release that was there before refuses others for a moment after it is gone.
        deadline = time.monotonic() + 30
        while True:
            try:
                self.kubectl("apply", "--server-side", "--force-conflicts", *files)
                break
            except KubectlError as error:
                if "is prohibited by default" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        served = [crd for crd in _crds(bundle) if _served_versions(crd)]
        wait_for(lambda: all(self._is_served(crd) for crd in served), f"{bundle.version} to be served", 60)

    def uninstall(self, bundle: Bundle) -> None:
        """Remove a release of the Gateway API with all its objects: first the policy, which guards it."""
        files = sorted(bundle.files(), key=lambda path: "_vap_" not in path.name)
        self.kubectl("delete", "--ignore-not-found", *(f"--filename={path}" for path in files))

    def _is_served(self, crd: dict[str, Any]) -> bool:
        spec = crd["spec"]
        api = self.api()
        try:
            for version in _served_versions(crd):
                api.get(f"/apis/{spec['group']}/{version}/{spec['names']['plural']}?limit=1")
        except ApiError:
            return False
        return True

    # --- faults ---

    def expire_resource_versions(self) -> None:
        """Kill the API server, forget all history, start it again: to watch on from before is 410 Gone."""
        self.api_server.kill9()
        self.etcd.tick()
        self.etcd.compact()
        self.api_server.start()

    def _component(self, name: str, arguments: list[str], api: Api, health: str) -> Component:
        argv = [str(self.programs.path(name)), *arguments, *self._more.get(name, [])]
        return Component(
            self.place.argv(argv), self.home, self.layout.log(name), partial(_answers, api, health)
        )  # fmt: skip

    def _api(self, port: int, user: KeyPair | str | None, timeout: float = 30) -> Api:
        return Api(self.place, port, self.layout.certificates.authority, user, timeout)

    def _kubeconfig(self, path: Path, user: KeyPair | str) -> Path:
        return kubeconfig.write(path, self.server, self.layout.certificates.authority, user)


@contextlib.contextmanager
def control_plane(
    place: Place = HERE, arguments: Mapping[str, list[str]] | None = None
) -> Iterator[ControlPlane]:
    """A new control plane without CRDs, of which nothing is left afterwards. Raises MissingError.

    Removes first what killed runs have left on this machine.
    """
    programs = find_programs()
    homes.sweep()
    home = homes.create()
    try:
        plane = ControlPlane(home, place=place, programs=programs, arguments=arguments)
        plane.start()
        yield plane
    finally:
        homes.remove(home)


def _answers(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except (ApiError, OSError):
        api.close()
        return False
    return True


def _crds(bundle: Bundle) -> list[dict[str, Any]]:
    documents = (document for path in bundle.files() for document in yaml.safe_load_all(path.read_text()))
    return [found for found in documents if found and found["kind"] == "CustomResourceDefinition"]


def _served_versions(crd: dict[str, Any]) -> list[str]:
    return [version["name"] for version in crd["spec"]["versions"] if version["served"]]
