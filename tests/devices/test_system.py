# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machine around the devices in a real QEMU, asked about itself over QMP."""

from pathlib import Path
from typing import cast

import pytest

from bpferry.errors import Unsupported
from bpferry.qemu.firmware import read_descriptors
from tests import requires
from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu

MIB = 2**20
UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"

DOCUMENT = """\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>o, n</name>
  {memory}
  <os{firmware}><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>
  {top}
  <devices>{devices}<memballoon model='none'/></devices>
</domain>
"""

MEMORY = "<memory unit='MiB'>64</memory>"
ROOM = "<memory unit='MiB'>{}</memory><maxMemory slots='2' unit='GiB'>1</maxMemory>"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the VM leaves in the test's own folder. Paths of sockets have to be short."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()


def document(
    top: str = "",
    *,
    os: str = "",
    devices: str = "",
    memory: str = MEMORY,
    machine: str = "q35",
    firmware: str = "",
) -> str:
    """Return a document with *top* beside its devices."""
    return DOCUMENT.format(
        top=top,
        os=os,
        devices=devices,
        memory=memory,
        machine=machine,
        firmware=f" firmware='{firmware}'" if firmware else "",
    )


def tables(vm: Running, command: str) -> list[dict[str, object]]:
    """Return QEMU's answer to *command*, which is a list."""
    return cast("list[dict[str, object]]", vm.execute(command))


def of_machine(vm: Running, name: str) -> object:
    """Return the property *name* of the machine."""
    return vm.execute("qom-get", path="/machine", property=name)


def processor(vm: Running, name: str) -> object:
    """Return the property *name* of the first processor."""
    path = tables(vm, "query-cpus-fast")[0]["qom-path"]
    return vm.execute("qom-get", path=path, property=name)


def test_names(tmp_path: Path) -> None:
    """QEMU knows the VM by its name, its UUID and its generation."""
    text = document(f"<uuid>{UUID}</uuid><genid>{UUID}</genid>")

    with running(text, tmp_path) as vm:
        assert vm.execute("query-name") == {"name": "o, n"}
        assert vm.execute("query-uuid") == {"UUID": UUID}
        assert vm.execute("query-vm-generation-id") == {"guid": UUID}


def test_new_generation(tmp_path: Path) -> None:
    """Without a value, each start is a new generation."""
    with running(document("<genid/>"), tmp_path) as vm:
        assert vm.execute("query-vm-generation-id") != {"guid": UUID}


@pytest.mark.parametrize("machine", ["q35", "pc", "microvm", "isapc"])
def test_machines(machine: str, tmp_path: Path) -> None:
    """Each kind of machine starts with the memory that it was given."""
    with running(document(machine=machine), tmp_path) as vm:
        assert vm.execute("query-memory-size-summary") == {
            "base-memory": 64 * MIB,
            "plugged-memory": 0,
        }


@pytest.mark.parametrize(
    ("cpu", "kind"),
    [
        ("", "qemu64-x86_64-cpu"),
        ("<cpu mode='maximum'/>", "max-x86_64-cpu"),
        ("<cpu mode='host-model'/>", "max-x86_64-cpu"),
        ("<cpu><model>core2duo</model></cpu>", "core2duo-x86_64-cpu"),
    ],
)
def test_processor(cpu: str, kind: str, tmp_path: Path) -> None:
    """The processor is of the model that was asked for."""
    with running(document(cpu), tmp_path) as vm:
        assert kind == processor(vm, "type")


def test_features_of_the_processor(tmp_path: Path) -> None:
    """Features are switched, the vendor and the width of addresses are set."""
    cpu = (
        "<cpu><model vendor_id='Libvirt QEMU'>qemu64</model>"
        "<feature name='lahf_lm' policy='require'/><feature name='cx16' policy='disable'/>"
        "<maxphysaddr mode='emulate' bits='39'/></cpu>"
    )

    with running(document(cpu), tmp_path) as vm:
        found = [processor(vm, name) for name in ("vendor", "lahf-lm", "cx16", "phys-bits")]

    assert found == ["Libvirt QEMU", True, False, 39]


def test_what_the_hypervisor_offers(tmp_path: Path) -> None:
    """QEMU takes the properties that offer features of KVM and Hyper-V."""
    top = (
        "<features><apic eoi='on'/><pvspinlock state='on'/><pmu state='off'/>"
        "<kvm><hidden state='on'/><hint-dedicated state='on'/><poll-control state='on'/></kvm>"
        "<hyperv><relaxed state='on'/><vapic state='on'/><spinlocks state='on' retries='8191'/>"
        "<vpindex state='on'/><runtime state='on'/><synic state='on'/>"
        "<stimer state='on'><direct state='on'/></stimer><reset state='on'/>"
        "<vendor_id state='on' value='KVM Hv'/><frequencies state='on'/>"
        "<reenlightenment state='on'/><tlbflush state='on'><direct state='on'/>"
        "<extended state='on'/></tlbflush><ipi state='on'/><evmcs state='on'/><avic state='on'/>"
        "<emsr_bitmap state='on'/><xmm_input state='on'/></hyperv></features>"
        "<clock offset='utc'><timer name='hypervclock' present='yes'/>"
        "<timer name='tsc' frequency='2000000000'/></clock>"
    )

    with running(document(top), tmp_path) as vm:
        found = [
            processor(vm, name)
            for name in ("kvm", "hv-relaxed", "hv-vendor-id", "hv-time", "tsc-frequency")
        ]

    assert found == [False, True, "KVM Hv", True, 2000000000]


def test_arrangement(tmp_path: Path) -> None:
    """Processors sit where the arrangement says; those of later have a free place."""
    top = (
        "<vcpu current='3'>8</vcpu>"
        "<cpu><topology sockets='1' dies='2' cores='2' threads='2'/></cpu>"
    )

    with running(document(top), tmp_path) as vm:
        places = tables(vm, "query-hotpluggable-cpus")
        running_ones = tables(vm, "query-cpus-fast")

    assert (8, 3) == (len(places), len(running_ones))
    assert {"socket-id": 0, "die-id": 1, "core-id": 1, "thread-id": 1} in [
        {key: value for key, value in place["props"].items() if key != "module-id"}
        for place in cast("list[dict[str, dict[str, object]]]", places)
    ]


@pytest.mark.parametrize(
    ("backing", "share", "kind"),
    [
        ("", False, "memory-backend-ram"),
        ("<source type='memfd'/><access mode='shared'/>", True, "memory-backend-memfd"),
        ("<source type='file'/>", False, "memory-backend-file"),
        ("<allocation mode='immediate' threads='2'/>", False, "memory-backend-ram"),
        ("<nosharepages/>", False, "memory-backend-ram"),
    ],
)
def test_memory(backing: str, share: bool, kind: str, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """The memory comes from where the document says."""
    text = document(f"<memoryBacking>{backing}</memoryBacking>")

    with running(text, tmp_path) as vm:
        (found,) = tables(vm, "query-memdev")
        assert (64 * MIB, share) == (found["size"], found["share"])
        assert kind == vm.execute("qom-get", path="/objects/pc.ram", property="type")


def test_nodes(tmp_path: Path) -> None:
    """Each node has its processors and its memory."""
    top = (
        "<vcpu>4</vcpu><numatune><memory mode='preferred' nodeset='0'/></numatune>"
        "<cpu><numa><cell id='0' cpus='0,2' memory='32' unit='MiB'>"
        "<distances><sibling id='1' value='31'/></distances></cell>"
        "<cell id='1' cpus='1,3' memory='32' unit='MiB'/></numa></cpu>"
    )

    with running(document(top), tmp_path) as vm:
        processors = cast("list[dict[str, dict[str, object]]]", tables(vm, "query-cpus-fast"))
        memory = {found["id"]: found for found in tables(vm, "query-memdev")}

    assert [0, 1, 0, 1] == [found["props"]["node-id"] for found in processors]
    assert {"ram-node0": 32 * MIB, "ram-node1": 32 * MIB} == {
        name: found["size"] for name, found in memory.items()
    }
    assert ("preferred", [0]) == (
        memory["ram-node0"]["policy"],
        memory["ram-node0"]["host-nodes"],
    )


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("<memory model='dimm'><target><size unit='MiB'>64</size></target></memory>", "dimm"),
        (
            (
                "<memory model='nvdimm'><source><path>nv</path></source><target>"
                "<size unit='MiB'>64</size><label><size unit='KiB'>128</size></label>"
                "</target></memory>"
            ),
            "nvdimm",
        ),
        (
            (
                "<memory model='virtio-mem'><target><size unit='MiB'>64</size>"
                "<block unit='MiB'>2</block><requested unit='MiB'>32</requested></target></memory>"
            ),
            "virtio-mem",
        ),
        (
            (
                "<memory model='virtio-pmem'><source><path>nv</path></source>"
                "<target><size unit='MiB'>64</size></target></memory>"
            ),
            "virtio-pmem",
        ),
    ],
)
def test_modules(module: str, kind: str, tmp_path: Path) -> None:
    """QEMU has the module, of its kind and with its id."""
    (tmp_path / "nv").write_bytes(bytes(64 * MIB))

    text = document("<features><acpi/></features>", devices=module, memory=ROOM.format(128))

    with running(text, tmp_path) as vm:
        (found,) = tables(vm, "query-memory-devices")

    assert kind == found["type"]
    assert cast("dict[str, object]", found["data"])["id"] == "memory0"


def test_threads(tmp_path: Path) -> None:
    """QEMU has the threads with their pools."""
    top = (
        "<iothreads>2</iothreads><iothreadids><iothread id='4' thread_pool_min='1'"
        " thread_pool_max='8'><poll max='7'/></iothread></iothreadids>"
        "<defaultiothread thread_pool_min='1' thread_pool_max='4'/>"
    )

    with running(document(top), tmp_path) as vm:
        found = {thread["id"]: thread["poll-max-ns"] for thread in tables(vm, "query-iothreads")}

    assert (7, {"iothread1", "iothread4"}) == (found["iothread4"], set(found))


def test_switches_of_the_machine(tmp_path: Path) -> None:
    """The machine has what was switched on, and lacks what was switched off."""
    top = (
        "<features><acpi/><smm state='on'><tseg unit='MiB'>8</tseg></smm><vmport state='off'/>"
        "<ps2 state='off'/><vmcoreinfo state='on'/></features>"
        "<clock offset='utc'><timer name='hpet' present='no'/></clock>"
        "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>"
    )
    names = ("acpi", "smm", "vmport", "i8042", "hpet", "dump-guest-core", "usb")

    with running(document(top), tmp_path) as vm:
        found = [of_machine(vm, name) for name in names]
        assert vm.qom_type("vmcoreinfo0") == "vmcoreinfo"

    assert ["on", "on", "off", False, False, False, False] == found


@pytest.mark.parametrize(
    ("clock", "year"), [("<clock offset='absolute' start='946684800'/>", 100), ("", 126)]
)
def test_clock(clock: str, year: int, tmp_path: Path) -> None:
    """The guest's clock begins where the document says, in years since 1900."""
    with running(document(clock), tmp_path) as vm:
        found = cast("dict[str, int]", of_machine(vm, "rtc-time"))

    assert found["tm_year"] >= year
    assert (found["tm_year"] == year) or not clock


def test_kernel_and_tables(tmp_path: Path) -> None:
    """QEMU loads tables, values and the description of the system."""
    (tmp_path / "table").write_bytes(b"RAW!" + bytes(40))
    (tmp_path / "value").write_bytes(b"a value")
    top = (
        "<sysinfo type='smbios'><bios><entry name='vendor'>A, B</entry></bios>"
        "<system><entry name='manufacturer'>M</entry></system>"
        "<baseBoard><entry name='location'>L</entry></baseBoard>"
        "<chassis><entry name='sku'>S</entry></chassis>"
        "<oemStrings><entry>x, y=z</entry></oemStrings></sysinfo>"
        "<sysinfo type='fwcfg'><entry name='opt/org.example/a'>a, b</entry>"
        "<entry name='opt/org.example/f' file='value'/></sysinfo>"
    )
    os = (
        "<acpi><table type='slic'>table</table></acpi><smbios mode='sysinfo'/>"
        "<bootmenu enable='yes' timeout='3000'/><bios useserial='yes' rebootTimeout='0'/>"
    )

    with running(document("<features><acpi/></features>" + top, os=os), tmp_path) as vm:
        assert cast("dict[str, object]", of_machine(vm, "boot"))["menu"]


def test_what_the_user_says_to_qemu(tmp_path: Path) -> None:
    """Words and variables of the user's own reach QEMU."""
    top = (
        "<qemu:commandline><qemu:arg value='-device'/>"
        "<qemu:arg value='pvpanic,id=ua-mine'/></qemu:commandline>"
    )

    with running(document(top), tmp_path) as vm:
        assert vm.qom_type("ua-mine") == "pvpanic"


def flash(vm: Running) -> dict[str, tuple[object, object]]:
    """Return the file and whether it is read-only, of each node of flash."""
    return {
        str(node["node-name"]): (node["file"], node["ro"])
        for node in tables(vm, "query-named-block-nodes")
        if str(node.get("node-name", "")).startswith("pflash")
    }


def test_firmware_of_this_host(tmp_path: Path) -> None:
    """UEFI is found by its descriptor; its variables are a copy that stays."""
    requires.file("/usr/share/qemu/firmware/60-edk2-x86_64.json", "ovmf")
    os = "<firmware><feature name='secure-boot' enabled='no'/></firmware>"
    copy = tmp_path / "state" / "bpferry"
    text = document(os=os, firmware="efi")

    with running(text, tmp_path) as vm:
        found = flash(vm)

    variables = Path(str(found["pflash1-format"][0]))
    assert found["pflash0-format"] == ("/usr/share/OVMF/OVMF_CODE_4M.fd", True)
    assert (copy in variables.parents, found["pflash1-format"][1]) == (True, False)
    assert variables.stat().st_size == Path("/usr/share/OVMF/OVMF_VARS_4M.fd").stat().st_size


def test_secure_boot(tmp_path: Path) -> None:
    """Firmware with secure boot gets system management mode."""
    requires.file("/usr/share/qemu/firmware/50-edk2-x86_64-secure.json", "ovmf")

    with running(document(os="<loader secure='yes'/>", firmware="efi"), tmp_path) as vm:
        assert of_machine(vm, "smm") == "on"
        assert "pflash1-format" in flash(vm)


def test_descriptors_of_this_host() -> None:
    """What this host's packages have installed is read whole, in the order of names."""
    requires.file("/usr/share/qemu/firmware/60-edk2-x86_64.json", "ovmf")

    found = [Path(single.path).name for single in read_descriptors({})]

    assert "60-edk2-x86_64.json" in found
    assert found == sorted(found)


def test_machine_that_is_not_there(tmp_path: Path) -> None:
    """A machine that this QEMU no longer has is refused before it starts."""
    with (
        pytest.raises(Unsupported) as caught,
        running(document(machine="pc-q35-99.0"), tmp_path),
    ):
        pass

    assert caught.value.element == "/domain/os/type/@machine"


def test_property_that_the_user_sets(tmp_path: Path) -> None:
    """QEMU has the device with the user's own value for a property that bpferry does not say."""
    override = (
        "<qemu:override><qemu:device alias='rng0'><qemu:frontend>"
        "<qemu:property name='max-bytes' type='unsigned' value='77'/>"
        "</qemu:frontend></qemu:device></qemu:override>"
    )
    with running(
        domain("<rng model='virtio'><backend model='random'/></rng>", top=override), tmp_path
    ) as vm:
        assert 77 == vm.property_of("rng0", "max-bytes")
