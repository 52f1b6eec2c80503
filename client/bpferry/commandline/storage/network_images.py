# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images on the network that QEMU itself opens: the properties of their block nodes.

Each protocol has a driver of its own in QEMU (qapi/block-core.json, BlockdevOptions). A server that
authenticates users gets nothing that others on the network could use: CHAP (iSCSI) and cephx (RBD)
send no password, and https sends it, and cookies, only to a server whose certificate is checked.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from bpferry.commandline.parts import Secret
from bpferry.commandline.storage.image_checks import CONFIDED, OPTIONAL
from bpferry.commandline.storage.image_secrets import ImageSecrets
from bpferry.domain.model.disks import Image
from bpferry.domain.model.images import Host
from bpferry.domain.names import Named

PORTS: Final = {
    "nbd": 10809, "ssh": 22, "http": 80, "https": 443, "ftp": 21, "ftps": 990, "iscsi": 3260,
    "gluster": 24007,
}  # fmt: skip
"""The default ports of servers (src/conf/storage_source_conf.c, libvirt 11.3)."""

KEPT_IN_PATHS: Final = "/;@&=+$,:!*'()~"
"""Characters of a path that a URL needs no escapes for (RFC 3986, 3.3; libxml2's xmlSaveUri)."""

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "nbd": frozenset({"reconnect_delay"}),
    "rbd": frozenset({"snapshot", "config", "login"}),
    "iscsi": frozenset({"initiator", "login"}),
    "http": frozenset({"query", "read_ahead", "timeout", *CONFIDED}),
    "https": frozenset({"query", "read_ahead", "timeout", "verify", *CONFIDED}),
    "ftp": frozenset({"read_ahead", "timeout", *CONFIDED}),
    "ftps": frozenset({"read_ahead", "timeout", "verify", *CONFIDED}),
    "ssh": frozenset({"user_name", "agent"}),
    "nfs": frozenset({"user", "group"}),
    "gluster": frozenset(),
}
"""What else a document can set with each protocol."""


def network_node(part: Named[Image], secrets: ImageSecrets) -> dict[str, object]:
    """Return the driver of an image on the network, with its own properties.

    Args:
        part: the image.
        secrets: what its server is told, and what decrypts it.

    Raises:
        Unsupported: a field does not fit the protocol.
    """
    protocol = part.value.protocol
    if protocol is None:
        raise part.mistake(
            "protocol", "a disk on the network needs a protocol", "name the protocol, such as 'nbd'"
        )
    for field in OPTIONAL:
        if getattr(part.value, field) not in (None, ()) and field not in FIELDS[protocol]:
            name = field.replace("_", "-")
            raise part.refusal(
                field, f"there is no {name} with the protocol {protocol}", f"leave out {name}"
            )
    return {"driver": protocol, **BUILDERS[protocol](part, secrets)}


def _user(part: Named[Image]) -> str | None:
    return None if part.value.login is None else part.value.login.user_name


def _id(secret: Secret | None) -> str | None:
    return None if secret is None else secret.name


def _name(part: Named[Image], what: str) -> str:
    name = part.value.name
    if not name:
        raise part.mistake("", f"the name of the {what} is missing", "add the name")
    return name


def _one_host(part: Named[Image], *, unix: bool = False) -> Host:
    image = part.value
    if len(image.hosts) != 1:
        raise part.refusal(
            "", f"{image.protocol} takes one server, not {len(image.hosts)}", "leave one server"
        )
    (host,) = part.parts("hosts", image.hosts)
    if host.value.transport == "unix" and not unix:
        raise host.refusal(
            "transport", f"{image.protocol} needs tcp", "write 'tcp', or leave the transport out"
        )
    _check_host(host)
    return host.value


def _check_host(part: Named[Host]) -> None:
    host = part.value
    needed, other = ("socket", "name") if host.transport == "unix" else ("name", "socket")
    if not getattr(host, needed):
        raise part.mistake(
            "", f"a server behind {host.transport} needs a {needed}", f"add the {needed}"
        )
    if getattr(host, other) is not None or (host.transport == "unix" and host.port is not None):
        raise part.mistake(
            "",
            f"a server behind {host.transport} has only a {needed}",
            f"leave out all but the {needed}",
        )


def _port(host: Host, image: Image) -> str:
    return str(host.port or PORTS[image.protocol or ""])


def _inet(host: Host, image: Image) -> dict[str, object]:
    return {"host": host.name, "port": _port(host, image)}


def _socket(host: Host, image: Image) -> dict[str, object]:
    if host.transport == "unix":
        return {"type": "unix", "path": host.socket}
    return {"type": "inet", **_inet(host, image)}


def _bracketed(name: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(name)}]"
    except ValueError:
        return name


def _nbd(part: Named[Image], _: ImageSecrets) -> dict[str, object]:
    image = part.value
    server = _socket(_one_host(part, unix=True), image)
    return {"server": server, "export": image.name, "reconnect-delay": image.reconnect_delay}


def _rbd(part: Named[Image], secrets: ImageSecrets) -> dict[str, object]:
    image = part.value
    pool, slash, name = _name(part, "pool and the image").partition("/")
    if not (pool and slash and name):
        raise part.mistake(
            "name", f"expected 'pool/image', not '{image.name}'", "write the name in this form"
        )
    servers = []
    for server in part.parts("hosts", image.hosts):
        _check_host(server)
        host = server.value
        if host.transport == "unix" or host.port is None:
            raise server.mistake(
                "",
                "rbd needs a name and a port",
                "name both, such as ceph.example and 6789",
            )
        servers.append({"host": host.name, "port": str(host.port)})
    return {
        "pool": pool,
        "image": name,
        "snapshot": image.snapshot,
        "conf": image.config,
        "server": servers or None,
        "encrypt": _layers(image, secrets),
        "user": _user(part),
        "auth-client-required": ["cephx", "none"] if image.login else None,
        "key-secret": _id(secrets.login),
    }


def _layers(image: Image, secrets: ImageSecrets) -> dict[str, object] | None:
    """Return what librbd decrypts: the image, and in it what is below it, and so on."""
    layers: dict[str, object] | None = None
    encryption = image.encryption
    if encryption is None or encryption.engine != "librbd":
        return None
    for secret in reversed(secrets.encryption):
        layer: dict[str, object] = {"format": encryption.format, "key-secret": secret.name}
        layers = layer if layers is None else {**layer, "parent": layers}
    return layers


def _iscsi(part: Named[Image], secrets: ImageSecrets) -> dict[str, object]:
    image = part.value
    target, _, lun = _name(part, "target").partition("/")
    if lun and not re.fullmatch(r"[0-9]{1,5}", lun):
        raise part.mistake(
            "name", f"expected 'target/lun', not '{image.name}'", "write the name in this form"
        )
    host = _one_host(part)
    return {
        "portal": f"{_bracketed(host.name or '')}:{_port(host, image)}",
        "target": target,
        "lun": int(lun or "0"),
        "transport": "tcp",
        "user": _user(part),
        "password-secret": _id(secrets.login),
        "initiator-name": image.initiator,
    }


def _curl(part: Named[Image], secrets: ImageSecrets) -> dict[str, object]:
    image = part.value
    _check_trust(part)
    host = _one_host(part)
    server = f"{_bracketed(host.name or '')}:{_port(host, image)}"
    path = quote(_name(part, "file").removeprefix("/"), safe=KEPT_IN_PATHS)
    query = f"?{image.query}" if image.query else ""
    return {
        "url": f"{image.protocol}://{server}/{path}{query}",
        "username": _user(part),
        "password-secret": _id(secrets.login),
        "cookie-secret": _id(secrets.cookies),
        "sslverify": image.verify,
        "timeout": image.timeout,
        "readahead": image.read_ahead,
    }


def _check_trust(part: Named[Image]) -> None:
    """Refuse to send secrets to a server if others on the network could read them."""
    image = part.value
    logins = () if image.login is None else (part.part("login", image.login),)
    for confided in (*logins, *part.parts("cookies", image.cookies)):
        if image.protocol != "https" or image.verify is False:
            raise confided.refusal(
                "",
                "cookies are sent only over https with the certificate checked: otherwise others "
                "could read them, or pose as the server",
                "use https, and check the certificate",
            )


def _ssh(part: Named[Image], _: ImageSecrets) -> dict[str, object]:
    image = part.value
    server = _inet(_one_host(part), image)
    return {"path": _name(part, "file"), "server": server, "user": image.user_name}


def _nfs(part: Named[Image], _: ImageSecrets) -> dict[str, object]:
    image = part.value
    host = _one_host(part)
    if host.port is not None:
        raise part.refusal(
            "hosts[0].port", "QEMU cannot use another port of an NFS server", "leave the port out"
        )
    return {
        "server": {"host": host.name, "type": "inet"},
        "path": _name(part, "file"),
        "user": _number(image.user),
        "group": _number(image.group),
    }


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _gluster(part: Named[Image], _: ImageSecrets) -> dict[str, object]:
    image = part.value
    volume, slash, path = _name(part, "volume and the file").partition("/")
    if not (volume and slash and path):
        raise part.mistake(
            "name", f"expected 'volume/file', not '{image.name}'", "write the name in this form"
        )
    if not image.hosts:
        raise part.mistake("", "gluster needs at least one server", "add a server")
    for server in part.parts("hosts", image.hosts):
        _check_host(server)
    servers = [_socket(host, image) for host in image.hosts]
    return {"volume": volume, "path": path, "server": servers}


BUILDERS: Final[Mapping[str, Callable[[Named[Image], ImageSecrets], dict[str, object]]]] = {
    "nbd": _nbd,
    "rbd": _rbd,
    "iscsi": _iscsi,
    "http": _curl,
    "https": _curl,
    "ftp": _curl,
    "ftps": _curl,
    "ssh": _ssh,
    "nfs": _nfs,
    "gluster": _gluster,
}
