# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make a new VM, step by step: first everything is looked at, then everything is made."""

import os
import uuid

from bpferry.domain.architectures import is_pc
from bpferry.errors import BadInput, BpferryError
from bpferry.machine.creation import base_image, logins, names, networks, seed
from bpferry.machine.creation.description import build_description, written
from bpferry.machine.creation.qemu_img import make_overlay
from bpferry.machine.creation.together import FILE_MODE, all_or_nothing
from bpferry.machine.creation.wish import USUAL_DISK, BaseImage, NewVm, Wish
from bpferry.machine.folders import disk_folder


def create_vm(wish: Wish) -> NewVm:
    """Make the VM of *wish*, and return what it is.

    Raises:
        BpferryError: it cannot be made; nothing of it is left then.
    """
    vm = plan_vm(wish)
    with all_or_nothing() as made:
        # The folder first: whoever makes it has the name.
        made.make_folder(vm.folder)
        make_overlay(vm.disk, vm.image, vm.disk_size)
        _write_seed(vm)
        made.write_file(vm.description, build_description(vm))
    return vm


def plan_vm(wish: Wish) -> NewVm:
    """Return the VM of *wish*, with nothing made.

    Raises:
        BpferryError: there cannot be such a VM.
    """
    names.check_name(wish.name)
    names.check_free(wish.name)
    login = logins.choose_login(wish)
    image = base_image.look_at(wish.image, wish.image_format)
    size = _choose_size(wish, image)
    return NewVm(
        name=wish.name,
        instance=str(uuid.uuid4()),
        memory=wish.memory,
        vcpus=wish.vcpus,
        disk_size=size,
        firmware=_choose_firmware(wish),
        image=image,
        card=networks.choose_connection(wish),
        login=login,
        description=names.description_path(wish.name),
        folder=disk_folder(wish.name),
    )


def _choose_size(wish: Wish, image: BaseImage) -> int:
    if wish.disk_size is None:
        return max(USUAL_DISK, image.size)
    if wish.disk_size < image.size:
        raise BadInput(
            f"wrong usage: a disk of {written(wish.disk_size)} is smaller than the image "
            f"'{wish.image}' with {written(image.size)}",
            f"say at least '--disk-size \"{written(image.size)}\"', or leave it out",
        )
    return wish.disk_size


def _choose_firmware(wish: Wish) -> str:
    """Return the firmware to name: images for other machines than PCs boot with UEFI only."""
    if wish.firmware is not None:
        return "" if wish.firmware == "bios" else wish.firmware
    return "" if is_pc(os.uname().machine) else "efi"


def _write_seed(vm: NewVm) -> None:
    """Write the seed into the folder of *vm*, which goes away with all that is in it."""
    image = seed.build_image(seed.seed_files(vm))
    try:
        fd = os.open(vm.seed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with open(fd, "wb") as file:  # noqa: PTH123 - of an fd
            file.write(image)
    except OSError as error:
        raise BpferryError(f"cannot write '{vm.seed}': {error.strerror}", "make room") from error
