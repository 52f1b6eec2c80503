# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords and keys of disks: encrypted images, and servers that ask who one is.

What is expected of nodes and names is what libvirt 11.3 says in its own tests.
"""

import json

import pytest

from bpferry.commandline.parts import Environment, Option, Part, Secret
from tests.client.commandline.disk_parts import nodes, parts_of
from tests.client.refusals import refusal_of

UUID = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
PASSPHRASE = f"<secret type='passphrase' uuid='{UUID}'/>"
LUKS = f"<encryption format='luks'>{PASSPHRASE}</encryption>"
CEPH = "<auth username='myname'><secret type='ceph' usage='mycluster_myname'/></auth>"
CHAP = "<auth username='myname'><secret type='iscsi' usage='mycluster_myname'/></auth>"


def disk(source: str, kind: str = "raw", inside: str = "", target: str = "vda") -> str:
    """Return the XML of a disk from the file ``/a`` of the format *kind*."""
    return (
        f"<disk type='file' device='disk'><driver type='{kind}'/><source file='/a'>{source}"
        f"</source>{inside}<target dev='{target}' bus='virtio'/></disk>"
    )


def remote(attributes: str, inside: str = "", beside: str = "", kind: str = "raw") -> str:
    """Return the XML of a disk on the network, which has one server."""
    return (
        f"<disk type='network' device='disk'><driver type='{kind}'/>{beside}<source {attributes}>"
        f"<host name='example.org' port='6000'/>{inside}</source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


RBD = "protocol='rbd' name='pool/image'"
ISCSI = "protocol='iscsi' name='iqn.1992-01.com.example:storage/1'"
HTTPS = "protocol='https' name='/a.iso'"


def secrets(parts: list[Part]) -> list[Secret]:
    """Return what QEMU has to know."""
    return [part for part in parts if isinstance(part, Secret)]


def objects(parts: list[Part]) -> list[dict[str, object]]:
    """Return the objects of QEMU."""
    return [
        json.loads(part.value or "")
        for part in parts
        if isinstance(part, Option) and part.name == "-object"
    ]


def test_luks_is_the_format_of_a_raw_image() -> None:
    """As in libvirt's pair luks-disks-source."""
    parts = parts_of(disk(LUKS))

    assert {
        "node-name": "vda-format",
        "read-only": False,
        "driver": "luks",
        "key-secret": "libvirt-1-format-encryption-secret0",
        "file": "vda-storage",
    } == nodes(parts)[-1]


@pytest.mark.parametrize(("inside", "beside"), [(LUKS, ""), ("", LUKS)])
def test_encrypted_qcow2(inside: str, beside: str) -> None:
    """As in libvirt's pairs encrypted-disk and luks-disks-source-qcow2: both places are read."""
    parts = parts_of(disk(inside, "qcow2", beside))

    assert {"format": "luks", "key-secret": "libvirt-1-format-encryption-secret0"} == nodes(parts)[
        -1
    ]["encrypt"]


def test_secret_comes_from_a_file_that_is_inherited() -> None:
    """The command line has the name of an fd, and the part the name of the secret."""
    parts = parts_of(disk(LUKS))

    name = "libvirt-1-format-encryption-secret0"
    assert [{"qom-type": "secret", "id": name, "file": f"/proc/self/fd/{name}"}] == objects(parts)
    assert [Secret(name, "disks[0].encryption.secrets[0]", wanted=UUID)] == secrets(parts)


def test_images_are_numbered_from_the_last_disk_on() -> None:
    """As libvirt does: each image before those below it, and those of the last disk first."""
    below = (
        f"<backingStore type='file'><format type='qcow2'/><source file='/b'>{LUKS}</source>"
        "<backingStore/></backingStore>"
    )
    parts = parts_of(disk(LUKS, "qcow2") + disk(LUKS, "qcow2", below, "vdb"))

    assert [
        ("disks[0]", "libvirt-3-format-encryption-secret0"),
        ("disks[1]", "libvirt-1-format-encryption-secret0"),
        ("disks[1].backing", "libvirt-2-format-encryption-secret0"),
    ] == sorted((secret.key.partition(".encryption")[0], secret.name) for secret in secrets(parts))


def test_login_to_ceph() -> None:
    """As in libvirt's pair disk-network-rbd, where <auth> is beside <source>."""
    parts = parts_of(remote(RBD, beside=CEPH))

    assert {
        "driver": "rbd",
        "pool": "pool",
        "image": "image",
        "server": [{"host": "example.org", "port": "6000"}],
        "user": "myname",
        "auth-client-required": ["cephx", "none"],
        "key-secret": "libvirt-1-storage-auth-secret0",
        "node-name": "vda-storage",
        "read-only": False,
    } == nodes(parts)[0]
    assert "base64" == objects(parts)[0]["format"]
    assert "mycluster_myname" == secrets(parts)[0].wanted


def test_login_to_iscsi() -> None:
    """As in libvirt's pair luks-disks-source-qcow2."""
    parts = parts_of(remote(ISCSI, CHAP))

    found = nodes(parts)[0]
    assert ("myname", "libvirt-1-storage-auth-secret0") == (found["user"], found["password-secret"])
    assert "format" not in objects(parts)[0]


def test_librbd_decrypts_what_is_in_it() -> None:
    """As in libvirt's pair disk-network-rbd-encryption: no node of its own, and layers."""
    encryption = f"<encryption format='luks2' engine='librbd'>{PASSPHRASE}{PASSPHRASE}</encryption>"
    parts = parts_of(remote(RBD, encryption))

    assert {
        "format": "luks2",
        "key-secret": "libvirt-1-storage-encryption-secret0",
        "parent": {"format": "luks2", "key-secret": "libvirt-1-storage-encryption-secret1"},
    } == nodes(parts)[0]["encrypt"]
    assert ["vda-storage"] == [node["node-name"] for node in nodes(parts)]


def test_librbd_below_another_format() -> None:
    """As in libvirt's pair disk-network-rbd-encryption: the name is that of the format's node."""
    encryption = f"<encryption format='luks-any' engine='librbd'>{PASSPHRASE}</encryption>"
    parts = parts_of(remote(RBD, encryption, kind="vmdk"))

    below, above = nodes(parts)
    assert {"format": "luks-any", "key-secret": "libvirt-1-format-encryption-secret0"} == below[
        "encrypt"
    ]
    assert "encrypt" not in above


def test_password_and_cookies_go_to_https() -> None:
    """What a document holds itself goes the same way as what a file holds."""
    cookies = (
        "<cookies><cookie name='a'>one</cookie><cookie name='b'>\"two\"</cookie></cookies>" + CHAP
    )
    parts = parts_of(remote(HTTPS, cookies))

    found = nodes(parts)[0]
    assert {
        "username": "myname",
        "password-secret": "libvirt-1-storage-auth-secret0",
        "cookie-secret": "libvirt-1-storage-httpcookie-secret0",
    }.items() <= found.items()
    assert 'a=one; b="two"' == secrets(parts)[1].text
    assert "one" not in json.dumps([objects(parts), nodes(parts)])
    assert "one" not in repr(secrets(parts))


def test_agent_of_ssh_is_in_the_environment() -> None:
    """QEMU asks the one that the document names, and takes the name to log in with."""
    identity = "<identity username='alice' agentsock='/run/agent'/>"
    parts = parts_of(remote("protocol='ssh' name='/a'", identity))

    assert [Environment("SSH_AUTH_SOCK", "/run/agent")] == [
        part for part in parts if isinstance(part, Environment)
    ]
    assert "alice" == nodes(parts)[0]["user"]


AGENT = "<identity username='u' agentsock='{}'/>"
TWO_AGENTS = remote("protocol='ssh' name='/a'", AGENT.format("/1")) + remote(
    "protocol='ssh' name='/b'", AGENT.format("/2")
).replace("vda", "vdb")


@pytest.mark.parametrize(
    ("text", "element"),
    [
        (disk("<encryption format='luks'/>"), "disks[0].encryption"),
        (disk(f"<encryption format='luks2'>{PASSPHRASE}</encryption>"),
         "disks[0].encryption.format"),
        (disk(f"<encryption format='luks' engine='librbd'>{PASSPHRASE}</encryption>"),
         "disks[0].encryption.engine"),
        (disk(f"<encryption format='luks'>{PASSPHRASE}{PASSPHRASE}</encryption>"),
         "disks[0].encryption.secrets[1]"),
        (disk(LUKS, "vmdk"), "disks[0].encryption"),
        (disk("<encryption format='luks'><secret type='passphrase'/></encryption>"),
         "disks[0].encryption.secrets[0]"),
        (disk(f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}' usage='x'/>"
              "</encryption>"), "disks[0].encryption.secrets[0].usage"),
        (disk(CHAP), "disks[0].login"),
        (remote(RBD, "<auth username='u'/>"), "disks[0].login"),
        (remote(RBD, CHAP), "disks[0].login.secret.type"),
        (remote(ISCSI, CEPH), "disks[0].login.secret.type"),
        (remote("protocol='nbd'", CHAP), "disks[0].login"),
        (remote("protocol='http' name='/a'", CHAP), "disks[0].login"),
        (remote("protocol='ftps' name='/a'", CHAP), "disks[0].login"),
        (remote(HTTPS, "<ssl verify='no'/>" + CHAP), "disks[0].login"),
        (remote("protocol='http' name='/a'", "<cookies><cookie name='a'>b</cookie></cookies>"),
         "disks[0].cookies[0]"),
        (remote(HTTPS, "<cookies><cookie name='a b'>b</cookie></cookies>"),
         "disks[0].cookies[0].name"),
        (remote(HTTPS, "<cookies><cookie name='a'>b;c=d</cookie></cookies>"),
         "disks[0].cookies[0].value"),
        (TWO_AGENTS, "disks[1].agent"),
    ],
)  # fmt: skip
def test_refused(text: str, element: str) -> None:
    """What does not fit together, or would be told to the wrong server, is refused by its name."""
    assert element == refusal_of(parts_of, text).element


def test_native_form() -> None:
    """The same in TOML."""
    text = """
[[disks]]
file = "a.qcow2"
format = "qcow2"
encryption = { secrets = [{ usage = "a" }] }
"""
    assert ["a"] == [secret.wanted for secret in secrets(parts_of(text))]
