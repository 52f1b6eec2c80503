# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the guest's display is shown: VNC, SPICE, and the displays of QEMU itself."""

import pytest
from msgspec.structs import replace

from bpferry.commandline.context import TlsFolder
from bpferry.commandline.displays import build as displays
from bpferry.commandline.parts import Certificates, Command, Endpoint, Option, Part, Remark, Secret
from tests.client.commandline.display_parts import (
    context_of,
    environment,
    objects,
    own_sockets,
    parts_of,
    remarks,
    values,
)
from tests.client.refusals import refusal_of

AUDIO = "<audio id='1' type='none'/>"
SDL_AUDIO = "<audio id='1' type='sdl'/>"


def vnc(text: str) -> str | None:
    """Return the one value of -vnc that the graphics *text* give."""
    (value,) = values(parts_of(text), "-vnc")
    return value


def spice(text: str) -> list[str]:
    """Return the settings of -spice that the graphics *text* give."""
    (value,) = values(parts_of(text), "-spice")
    return (value or "").split(",")


def local(text: str) -> str | None:
    """Return the one value of -display that *text* gives."""
    (value,) = values(parts_of(text), "-display")
    return value


def test_without_graphics_there_is_no_display() -> None:
    """QEMU does not open a window or a port that nobody asked for."""
    assert "none" == local("")


def test_vnc_at_a_port() -> None:
    """A port is said as a display, which counts from 5900; the host's address is local."""
    assert "vnc=127.0.0.1:3,audiodev=audio1" == vnc("<graphics type='vnc' port='5903'/>")


@pytest.mark.parametrize(
    "automatic",
    ["", "port='-1'", "autoport='yes'", "port='5907' autoport='yes'", "listen='127.0.0.1'"],
)
def test_vnc_at_any_port(automatic: str) -> None:
    """QEMU looks for a free port when it starts; the port of a past run does not count."""
    assert "vnc=127.0.0.1:0,to=99,audiodev=audio1" == vnc(f"<graphics type='vnc' {automatic}/>")


def test_vnc_at_an_address_of_ipv6() -> None:
    """An address with colons is in brackets."""
    text = "<graphics type='vnc' port='5900'><listen type='address' address='::1'/></graphics>"

    assert "vnc=[::1]:0,audiodev=audio1" == vnc(text)


@pytest.mark.parametrize(("given", "expected"), [("5701", "5701"), ("-1", "on")])
def test_vnc_with_web_sockets(given: str, expected: str) -> None:
    """A port of web sockets is a number, or QEMU's choice."""
    text = f"<graphics type='vnc' port='5900' websocket='{given}'/>"

    assert f"vnc=127.0.0.1:0,websocket={expected},audiodev=audio1" == vnc(text)


def test_vnc_with_its_settings() -> None:
    """Who may connect beside others, and who may switch the VM off."""
    text = "<graphics type='vnc' port='5900' sharePolicy='ignore' powerControl='yes'/>"

    assert "vnc=127.0.0.1:0,share=ignore,power-control=on,audiodev=audio1" == vnc(text)


@pytest.mark.parametrize(
    "text",
    [
        "<graphics type='vnc' socket='/tmp/a,b=c.sock'/>",
        "<graphics type='vnc'><listen type='socket' socket='/tmp/a,b=c.sock'/></graphics>",
        (
            "<graphics type='vnc' socket='/tmp/a,b=c.sock'>"
            "<listen type='socket' socket='/tmp/a,b=c.sock'/></graphics>"
        ),
    ],
)
def test_vnc_at_a_socket(text: str) -> None:
    """A path is not an option of QEMU's, whatever signs are in it, and QEMU makes what is there."""
    parts = parts_of(text)

    assert ["vnc=unix:/tmp/a,,b=c.sock,audiodev=audio1"] == values(parts, "-vnc")
    assert ["/tmp/a,b=c.sock"] == own_sockets(parts)


@pytest.mark.parametrize("kind", ["vnc", "spice"])
def test_socket_without_a_path(kind: str) -> None:
    """It is among the VM's own sockets."""
    parts = parts_of(f"<graphics type='{kind}'><listen type='socket'/></graphics>")

    assert [f"/run/user/7/bpferry/vm/{kind}.sock"] == own_sockets(parts)


def test_vnc_that_listens_nowhere() -> None:
    """It is there for QMP."""
    text = "<graphics type='vnc'><listen type='none'/></graphics>"

    assert "none,audiodev=audio1" == vnc(text)


def test_rendering_that_nobody_sees() -> None:
    """QEMU renders without a window and a server too; the user is told that this is all."""
    parts = parts_of("<graphics type='egl-headless'/>")

    assert ["egl-headless"] == values(parts, "-display")
    assert [
        Remark(
            "'egl-headless' only renders: nobody can see the guest's screen",
            "add graphics of type 'vnc' or 'spice'",
            "graphics[0]",
        )
    ] == [part for part in parts if isinstance(part, Remark)]


def test_keymap_is_one_for_all() -> None:
    """The layout of the keyboard is an option of its own."""
    text = "<graphics type='vnc' port='-1' keymap='de'/><graphics type='spice' keymap='de'/>"

    assert ["de"] == values(parts_of(text), "-k")


def test_spice_at_a_port() -> None:
    """Port and address are those of the document, and there is no password."""
    text = "<graphics type='spice' port='5930' listen='0.0.0.0'/>"

    assert ["port=5930", "addr=0.0.0.0", "disable-ticketing=on"] == spice(text)


@pytest.mark.parametrize(
    "automatic", ["autoport='yes'", "port='-1' tlsPort='-1'", "port='5901' autoport='yes'"]
)
def test_spice_at_any_port(automatic: str) -> None:
    """The port is the VM's own, always the same one, among those of no known use."""
    (first, *_), (again, *_) = (spice(f"<graphics type='spice' {automatic}/>") for _ in range(2))
    port = int(first.removeprefix("port="))

    assert first == again
    assert 16000 <= port < 24000


def test_spice_without_a_port() -> None:
    """It listens nowhere, as under libvirt."""
    parts = parts_of("<graphics type='spice'/>")

    assert "port=0" == str(values(parts, "-spice")[0]).split(",")[0]
    assert ["it has no port, so nobody could connect to it"] == remarks(parts)


def test_spice_that_is_to_listen_nowhere() -> None:
    """There is nothing to say about what was asked for."""
    assert [] == remarks(parts_of("<graphics type='spice'><listen type='none'/></graphics>"))


def test_spice_at_a_socket() -> None:
    """A path instead of a port."""
    text = "<graphics type='spice'><listen type='socket' socket='/tmp/s.sock'/></graphics>"

    assert ["unix=on", "addr=/tmp/s.sock"] == spice(text)[:2]


@pytest.mark.parametrize(
    ("element", "setting"),
    [
        ("<image compression='off'/>", "image-compression=off"),
        ("<jpeg compression='never'/>", "jpeg-wan-compression=never"),
        ("<zlib compression='always'/>", "zlib-glz-wan-compression=always"),
        ("<playback compression='off'/>", "playback-compression=off"),
        ("<streaming mode='all'/>", "streaming-video=all"),
        ("<mouse mode='server'/>", "agent-mouse=off"),
        ("<mouse mode='client'/>", "agent-mouse=on"),
        ("<clipboard copypaste='no'/>", "disable-copy-paste=on"),
        ("<filetransfer enable='no'/>", "disable-agent-file-xfer=on"),
        ("<channel name='inputs' mode='insecure'/>", "plaintext-channel=inputs"),
    ],
)
def test_spice_with_its_settings(element: str, setting: str) -> None:
    """Each element has one setting."""
    assert setting in spice(f"<graphics type='spice' port='5930'>{element}</graphics>")


@pytest.mark.parametrize(
    ("element", "setting"),
    [
        ("<gl enable='yes'/>", "gl=on"),
        ("<gl enable='yes' rendernode='/dev/dri/r'/>", "rendernode=/dev/dri/r"),
    ],
)
def test_spice_with_opengl(element: str, setting: str) -> None:
    """For clients at a socket, which take over what is rendered."""
    assert setting in spice(f"<graphics type='spice'><listen type='socket'/>{element}</graphics>")


def test_spice_with_opengl_at_a_port() -> None:
    """Only a QEMU that encodes video can do that, which an option of its own tells."""
    text = "<graphics type='spice' port='5930'><gl enable='yes'/></graphics>"

    assert "graphics[0].gl" == refusal_of(parts_of, text).element

    able = {"spice": frozenset({"video-codec"})}
    assert "gl=on" in str(values(parts_of(text, options=able), "-spice")[0])


@pytest.mark.parametrize(
    "element",
    [
        "<clipboard copypaste='yes'/>",
        "<filetransfer enable='yes'/>",
        "<gl enable='no'/>",
        "<channel name='main' mode='any'/>",
    ],
)
def test_spice_with_what_is_usual(element: str) -> None:
    """What QEMU does anyway is not said."""
    plain = spice("<graphics type='spice' port='5930'/>")

    assert plain == spice(f"<graphics type='spice' port='5930'>{element}</graphics>")


def test_sdl_has_its_environment() -> None:
    """The X server and its key are known by the environment."""
    parts = parts_of(f"<graphics type='sdl' display=':1' xauth='/h/.Xauthority'/>{SDL_AUDIO}")

    assert {"DISPLAY": ":1", "XAUTHORITY": "/h/.Xauthority"} == environment(parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"<graphics type='sdl' fullscreen='yes'/>{SDL_AUDIO}", "sdl,full-screen=on"),
        (f"<graphics type='sdl'><gl enable='no'/></graphics>{AUDIO}", "sdl,gl=off"),
        ("<graphics type='dbus' p2p='yes'/>", "dbus,p2p=on"),
        ("<graphics type='dbus' address='unix:path=/b,1'/>", "dbus,addr=unix:path=/b,,1"),
        (
            "<graphics type='dbus' p2p='yes'><audio id='7'/></graphics><audio id='7' type='dbus'/>",
            "dbus,p2p=on,audiodev=audio7",
        ),
        (
            (
                "<graphics type='vnc' port='-1'/><graphics type='egl-headless'>"
                "<gl rendernode='/dev/dri/r'/></graphics>"
            ),
            "egl-headless,rendernode=/dev/dri/r",
        ),
    ],
)
def test_display_of_qemu_itself(text: str, expected: str) -> None:
    """A window, a bus, or OpenGL without either."""
    assert expected == local(text)


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("<graphics type='vnc' port='80'/>", "graphics[0].port"),
        ("<graphics type='vnc' autoport='no'/>", "graphics[0].autoport"),
        ("<graphics type='vnc' passwd='123456789'/>", "graphics[0].password"),
        ("<graphics type='vnc' passwd='ääääz'/>", "graphics[0].password"),
        ("<graphics type='vnc' passwd='x' connected='fail'/>", "graphics[0].connected"),
        ("<graphics type='vnc' passwdValidTo='2027-01-31T00:00:00'/>",
         "graphics[0].password-valid-to"),
        ("<graphics type='vnc' passwd='x' passwdValidTo='2027-02-31T00:00:00'/>",
         "graphics[0].password-valid-to"),
        ("<graphics type='spice' connected='keep'/>", "graphics[0].connected"),
        ("<graphics type='sdl' passwd='x'/>", "graphics[0].password"),
        ("<graphics type='vnc' port='-1'><image compression='off'/></graphics>",
         "graphics[0].image-compression"),
        ("<graphics type='vnc' port='-1'><audio id='3'/></graphics>", "graphics[0].audio"),
        ("<graphics type='vnc' port='5901' socket='/s'/>", "graphics[0].port"),
        ("<graphics type='vnc' websocket='5700' socket='/s'/>", "graphics[0].websocket"),
        ("<graphics type='vnc' listen='::1' socket='/s'/>", "graphics[0].address"),
        ("<graphics type='vnc' listen='::1'><listen type='address' address='::2'/></graphics>",
         "graphics[0].address"),
        ("<graphics type='vnc' port='-1'><listen type='address'/><listen type='none'/></graphics>",
         "graphics[0].listens[1]"),
        ("<graphics type='spice' port='5930' defaultMode='secure'/>", "graphics[0].default-mode"),
        ("<graphics type='spice' tlsPort='5930' defaultMode='insecure'/>",
         "graphics[0].default-mode"),
        ("<graphics type='spice' port='5930'><channel name='main' mode='secure'/></graphics>",
         "graphics[0].channels[0].mode"),
        ("<graphics type='spice' tlsPort='5930'><listen type='socket'/></graphics>",
         "graphics[0].tls-port"),
        ("<graphics type='spice' port='5930'><listen type='none'/></graphics>",
         "graphics[0].port"),
        ("<graphics type='spice'><gl enable='no' rendernode='/dev/r'/></graphics>",
         "graphics[0].render-node"),
        ("<graphics type='sdl'/>", "graphics[0]"),
        ("<graphics type='dbus'/>", "graphics[0]"),
        ("<graphics type='dbus' p2p='yes' address='unix:path=/b'/>", "graphics[0].bus-address"),
        ("<graphics type='spice'/><graphics type='spice'/>", "graphics[1]"),
        ("<graphics type='dbus' p2p='yes'/><graphics type='sdl'/>" + AUDIO, "graphics[1]"),
        ("<graphics type='spice'><gl enable='yes'/></graphics><graphics type='egl-headless'/>",
         "graphics[0].gl"),
        ("<graphics type='vnc' port='-1' keymap='de'/><graphics type='spice' keymap='fr'/>",
         "graphics[1].keymap"),
    ],
)  # fmt: skip
def test_refused(text: str, element: str) -> None:
    """What cannot be done is refused by its name."""
    assert element == refusal_of(parts_of, text).element


@pytest.mark.parametrize("kind", ["sdl", "vnc", "spice"])
def test_display_that_this_qemu_was_built_without(kind: str) -> None:
    """It is refused before QEMU is started."""
    port = "" if kind == "sdl" else "port='-1'"
    text = f"<graphics type='{kind}' {port}/>{AUDIO}"

    refusal = refusal_of(parts_of, text, displays={"none": frozenset()}, commands={})
    assert "graphics[0]" == refusal.element


def test_password_is_not_in_the_message() -> None:
    """A refusal does not spread what it refuses."""
    with pytest.raises(Exception, match="8 bytes") as caught:
        parts_of("<graphics type='vnc' port='-1' passwd='123456789'/>")

    assert "123456789" not in f"{caught.value}{caught.value.__dict__}"


def secrets(parts: list[Part]) -> list[Secret]:
    """Return what QEMU has to know."""
    return [part for part in parts if isinstance(part, Secret)]


@pytest.mark.parametrize("kind", ["vnc", "spice"])
def test_password_goes_by_an_object(kind: str) -> None:
    """The command line has the object's name, and the object reads an fd that is inherited."""
    parts = parts_of(f"<graphics type='{kind}' autoport='yes' passwd='geheim'/>")
    name = f"{kind}-password"

    assert [Secret(name, "graphics[0].password", text="geheim")] == secrets(parts)
    assert [{"qom-type": "secret", "id": name, "file": f"/proc/self/fd/{name}"}] == objects(
        parts, "-object"
    )
    words = str(values(parts, f"-{kind}")[0]).split(",")
    assert f"password-secret={name}" in words
    assert "disable-ticketing=on" not in words
    assert "geheim" not in f"{[part for part in parts if isinstance(part, Option)]}"


def test_user_is_told_what_a_password_protects() -> None:
    """In one sentence for each protocol, where others reach it; on this host it needs no word."""
    local = "<graphics type='vnc' passwd='x'/><graphics type='spice' autoport='yes' passwd='x'/>"
    text = local.replace("passwd", "listen='0.0.0.0' passwd")

    assert [] == remarks(parts_of(local))

    assert [
        (
            "the password keeps others from connecting, but everything, also what you type, goes "
            "over the network unencrypted"
        ),
        (
            "the password keeps others from connecting and is sent encrypted, but everything else, "
            "also what you type, goes over the network unencrypted"
        ),
    ] == remarks(parts_of(text))
    assert [] == remarks(parts_of("<graphics type='vnc' socket='/s' passwd='x'/>"))


def test_password_that_ends() -> None:
    """QEMU is told when, in seconds since 1970; the document says it in UTC."""
    text = "<graphics type='spice' autoport='yes' passwd='x' passwdValidTo='2027-01-31T12:00:00'/>"

    assert [
        Command(
            "expire_password",
            {"protocol": "spice", "time": "1801396800"},
            "graphics[0].password-valid-to",
        )
    ] == [part for part in parts_of(text) if isinstance(part, Command)]


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("passwd='geheim' passwdValidTo='1969-12-31T23:59:59'", "was valid until 1969-12-31T23:59"),
        ("passwd=''", "the password is empty"),
    ],
)
def test_display_that_nobody_can_connect_to(password: str, words: str) -> None:
    """It asks for a password, has none, and the user is told."""
    vnc_parts = parts_of(f"<graphics type='vnc' {password}/>")
    spice_parts = parts_of(f"<graphics type='spice' autoport='yes' {password}/>")

    assert [] == secrets(vnc_parts) + secrets(spice_parts)
    assert ",password=on," in str(values(vnc_parts, "-vnc")[0])
    assert "ticketing" not in str(values(spice_parts, "-spice")[0])
    assert all(words in remark for remark in remarks(vnc_parts) + remarks(spice_parts))


TLS = TlsFolder("/home/u/.config/bpferry/pki/x", are_there=True)


def with_tls(text: str) -> list[Part]:
    """Return what *text* gives to a user who has certificates."""
    context = replace(context_of(text), spice_certificates=TLS, vnc_certificates=TLS)
    return list(displays.parts(context))


def certificates(parts: list[Part]) -> list[str]:
    """Return the folders of certificates."""
    return [part.folder for part in parts if isinstance(part, Certificates)]


def test_spice_with_tls() -> None:
    """As in libvirt's pair graphics-spice-usb-redir."""
    parts = with_tls(
        "<graphics type='spice' port='5903' tlsPort='5904'><channel name='main' mode='secure'/>"
        "<channel name='inputs' mode='insecure'/><channel name='cursor' mode='any'/></graphics>"
    )

    assert (
        "port=5903,tls-port=5904,addr=127.0.0.1,disable-ticketing=on,"
        f"x509-dir={TLS.folder},tls-channel=main,plaintext-channel=inputs"
    ) == values(parts, "-spice")[0]
    assert [TLS.folder] == certificates(parts)
    assert [("spice", "5903"), ("spice-tls", "5904")] == [
        (part.protocol, part.port) for part in parts if isinstance(part, Endpoint)
    ]


AUTOMATIC = [
    ("", True, True),
    ("defaultMode='secure'", False, True),
    ("defaultMode='insecure'", True, False),
]


@pytest.mark.parametrize(("mode", "plain", "tls"), AUTOMATIC)
def test_automatic_ports_are_those_that_are_needed(mode: str, plain: bool, tls: bool) -> None:  # noqa: FBT001
    """With certificates, a display that does not say otherwise has both."""
    parts = with_tls(f"<graphics type='spice' autoport='yes' {mode}/>")
    words = str(values(parts, "-spice")[0])

    assert (plain, tls) == (words.startswith("port="), "tls-port=" in words)


def test_automatic_ports_without_certificates() -> None:
    """An automatic port for TLS is an offer; who demands it is told what is missing."""
    offered = parts_of("<graphics type='spice' autoport='yes' tlsPort='-1'/>")
    demanded = parts_of("<graphics type='spice' autoport='yes' defaultMode='secure'/>")

    assert "tls" not in str(values(offered, "-spice")[0])
    assert "tls-channel=default" in str(values(demanded, "-spice")[0])
    assert ([], [""]) == (certificates(offered), certificates(demanded))


def test_password_with_tls_needs_no_warning() -> None:
    """Nobody reads along."""
    text = "<graphics type='vnc' passwd='x'/><graphics type='spice' autoport='yes' passwd='x'/>"

    assert [] == remarks(with_tls(text))


def test_vnc_with_tls() -> None:
    """As in libvirt's pair graphics-vnc-tls, with the user's own certificates."""
    parts = with_tls("<graphics type='vnc' port='5903'/>")

    assert [
        {
            "qom-type": "tls-creds-x509",
            "id": "vnc-tls-creds0",
            "dir": TLS.folder,
            "endpoint": "server",
            "verify-peer": False,
        }
    ] == objects(parts, "-object")
    assert ["vnc=127.0.0.1:3,tls-creds=vnc-tls-creds0,audiodev=audio1"] == values(parts, "-vnc")
    assert [TLS.folder] == certificates(parts)
