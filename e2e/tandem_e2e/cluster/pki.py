"""The certificates and kubeconfigs of a control plane, made with openssl."""

import json
from pathlib import Path

from tandem_e2e.shell import run

CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "apiserver-kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    "front-proxy": "/CN=front-proxy-client",
    "node": "/O=system:nodes/CN=system:node:localhost",
}
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
DAYS = "30"


def make(folder: Path, addresses: tuple[str, ...]) -> None:
    """A CA, the certificates of the API server and of each client, the service accounts' key."""
    folder.mkdir(parents=True)
    key, crt = _key(folder, "ca"), folder / "ca.crt"
    run("openssl", "req", "-x509", "-new", "-key", key, "-subj", "/CN=tandem-e2e", "-days", DAYS, "-out", crt)
    run("openssl", "ec", "-in", _key(folder, "sa"), "-pubout", "-out", folder / "sa.pub")
    names = ",".join([*(f"IP:{address}" for address in addresses), *(f"DNS:{name}" for name in NAMES)])
    serving = f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n"
    _certificate(folder, "apiserver", "/CN=kube-apiserver", serving)
    for name, subject in CLIENTS.items():
        _certificate(folder, name, subject, "extendedKeyUsage=clientAuth\n")


def kubeconfig(folder: Path, client: str, server: str) -> Path:
    """Write the kubeconfig of a client. It holds paths, not keys."""
    path = folder / f"{client}.kubeconfig"
    user = {"client-certificate": str(folder / f"{client}.crt"), "client-key": str(folder / f"{client}.key")}
    cluster = {"server": server, "certificate-authority": str(folder / "ca.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": cluster}],
        "users": [{"name": client, "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": client}}],
    }
    path.write_text(json.dumps(content, indent=1))
    return path


def _key(folder: Path, name: str) -> Path:
    path = folder / f"{name}.key"
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    return path


def _certificate(folder: Path, name: str, subject: str, extensions: str) -> None:
    request, crt, ext = (folder / f"{name}.{suffix}" for suffix in ("csr", "crt", "ext"))
    run("openssl", "req", "-new", "-key", _key(folder, name), "-subj", subject, "-out", request)
    ext.write_text(extensions)
    authority = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial")
    run("openssl", "x509", "-req", "-in", request, *authority, "-days", DAYS, "-extfile", ext, "-out", crt)
