# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runs each command, with the options that the command line has.

Each function imports its command when it runs, so that a help text comes at once.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from bpferry.cli.given_options import given_by

if TYPE_CHECKING:
    from bpferry.machine.secrets import SecretFiles


def _run_vm(options: argparse.Namespace) -> int:
    from bpferry.cli.run import run  # noqa: PLC0415

    return run(
        options.file,
        dry_run=options.dry_run,
        require_ebpf=options.require_ebpf,
        ignore_unsupported=options.ignore_unsupported,
        as_json=options.json,
        secrets=_secrets(options),
        given=given_by(options),
        restore=options.restore,
        stop_timeout=options.stop_timeout,
        escape=options.escape_key,
    )


def _secrets(options: argparse.Namespace) -> "SecretFiles":
    """Return where the user says that passwords and keys are; ``--secret`` overrides the file."""
    from bpferry.machine.secrets import NO_SECRETS, NamedSecrets  # noqa: PLC0415

    named = dict(options.secret)
    listed = NO_SECRETS if options.secrets is None else _listed(options.secrets)
    return NamedSecrets({**listed, **named}, list(named))


def _listed(file: str) -> "SecretFiles":
    from bpferry.machine.secret_map import read_map  # noqa: PLC0415

    return read_map(file)


def _create(options: argparse.Namespace) -> int:
    from bpferry.cli.create import create  # noqa: PLC0415

    return create(options)


def _convert(options: argparse.Namespace) -> int:
    from bpferry.cli.convert import convert  # noqa: PLC0415

    return convert(
        options.file,
        options.to,
        ignore_unsupported=options.ignore_unsupported,
        as_json=options.json,
        given=given_by(options),
    )


def _check(options: argparse.Namespace) -> int:
    from bpferry.cli.check import check  # noqa: PLC0415

    return check(
        options.file,
        libvirt_session=options.libvirt_session,
        list_ignored=options.ignored,
        as_json=options.json,
        secrets=_secrets(options),
        given=given_by(options),
    )


def _capabilities(options: argparse.Namespace) -> int:
    from bpferry.cli.capabilities import show  # noqa: PLC0415

    return show(options.qemu, as_json=options.json, refresh=options.refresh, clear=options.clear)


def _tap(options: argparse.Namespace) -> int:
    from bpferry.cli import tap  # noqa: PLC0415

    if options.action == "create":
        return tap.create(
            options.source,
            is_network=options.network,
            queues=options.queues or 1,
            mtu=options.mtu,
            mac=options.mac,
            isolated=options.isolated,
            vlan=options.vlan,
            inbound=options.inbound,
            outbound=options.outbound,
            as_json=options.json,
        )
    if options.action == "delete":
        return tap.delete(options.name, as_json=options.json)
    return tap.list_own(as_json=options.json)


def _can_i(options: argparse.Namespace) -> int:
    from bpferry.cli.can_i import can_i  # noqa: PLC0415

    return can_i(
        options.bridge,
        options.network,
        queues=options.queues,
        mtu=options.mtu,
        mac=options.mac,
        ebpf=options.ebpf,
        vhost=options.vhost,
        as_json=options.json,
    )


def _exec(options: argparse.Namespace) -> int:
    from bpferry.cli.exec import run_exec  # noqa: PLC0415

    return run_exec(options)


def _fds(options: argparse.Namespace) -> int:
    from bpferry.cli.fds import become  # noqa: PLC0415

    become(options)


def _varlink(_options: argparse.Namespace) -> int:
    from bpferry.varlink.service import serve  # noqa: PLC0415

    return serve()


def _list(options: argparse.Namespace) -> int:
    from bpferry.cli.running import list_all  # noqa: PLC0415

    return list_all(as_json=options.json)


def _status(options: argparse.Namespace) -> int:
    from bpferry.cli.status import status  # noqa: PLC0415

    return status(options.name, as_json=options.json)


def _stop(options: argparse.Namespace) -> int:
    from bpferry.cli.running import stop  # noqa: PLC0415

    return stop(options.names, force=options.force, timeout_s=options.timeout, as_json=options.json)


def _service(options: argparse.Namespace) -> int:
    from bpferry.cli import service  # noqa: PLC0415

    act = {
        "start": service.start,
        "restart": service.restart,
        "enable": service.enable,
        "disable": service.disable,
    }[options.command]
    return act(options.name, as_json=options.json)


def _log(options: argparse.Namespace) -> int:
    from bpferry.cli.log import show  # noqa: PLC0415

    return show(options.name, follow=options.follow, as_json=options.json)


def _save(options: argparse.Namespace) -> int:
    from bpferry.cli.save import save  # noqa: PLC0415

    return save(options.name, options.file, replace=options.force, as_json=options.json)


def _migrate(options: argparse.Namespace) -> int:
    from bpferry.cli.migrate import migrate  # noqa: PLC0415

    return migrate(options.name, options.destination, as_json=options.json)


def _receive(options: argparse.Namespace) -> int:
    from bpferry.cli.receive import receive  # noqa: PLC0415

    return receive(options.name, options.front)


def _snapshot(options: argparse.Namespace) -> int:
    from bpferry.cli.save import snapshot  # noqa: PLC0415

    return snapshot(options.name, options.tag, as_json=options.json)


def _change(options: argparse.Namespace) -> int:
    from bpferry.cli.running import change  # noqa: PLC0415

    return change(options.command, options.name, as_json=options.json)


def _doctor(options: argparse.Namespace) -> int:
    from bpferry.cli.doctor import doctor  # noqa: PLC0415

    return doctor(
        options.file,
        deep=options.deep,
        as_json=options.json,
        secrets=_secrets(options),
        given=given_by(options),
    )


def _attach_nic(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import attach_nic  # noqa: PLC0415

    return attach_nic(options)


def _detach_nic(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import detach_nic  # noqa: PLC0415

    return detach_nic(options.name, options.card, timeout_s=options.timeout, as_json=options.json)


def _set_link(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import set_link  # noqa: PLC0415

    return set_link(options.name, options.card, link=options.link, as_json=options.json)


def _console(options: argparse.Namespace) -> int:
    from bpferry.cli.console import console  # noqa: PLC0415
    from bpferry.cli.escape_key import escape_key  # noqa: PLC0415

    return console(options.name, options.serial, escape_key(options.escape_key))


def _steering(options: argparse.Namespace) -> int:
    from bpferry.cli import steering  # noqa: PLC0415

    name, card, interval_s, as_json = options.name, options.card, options.interval, options.json
    if options.predict is not None:
        return steering.predict_flow(name, card, options.predict, as_json=as_json)
    if options.svg is not None:
        file = options.svg
        return steering.write_svg(name, card, file, interval_s=interval_s, as_json=as_json)
    act = steering.watch if options.watch else steering.show
    return act(name, card, interval_s=interval_s, as_json=as_json)


def _metrics(options: argparse.Namespace) -> int:
    from bpferry.cli.metrics import metrics  # noqa: PLC0415

    return metrics(options.name, interval_s=options.interval, as_json=options.json)


def _ip(options: argparse.Namespace) -> int:
    from bpferry.cli.reach import show_addresses  # noqa: PLC0415

    return show_addresses(options.name, options.card, as_json=options.json)


def _ssh(options: argparse.Namespace) -> int:
    from bpferry.cli.reach import log_in  # noqa: PLC0415

    return log_in(options)


def _attach_disk(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import attach_disk  # noqa: PLC0415

    return attach_disk(options)


def _detach_disk(options: argparse.Namespace) -> int:
    from bpferry.cli.hot_plug import detach_disk  # noqa: PLC0415

    return detach_disk(
        options.name, options.target, timeout_s=options.timeout, as_json=options.json
    )


def _screenshot(options: argparse.Namespace) -> int:
    from bpferry.cli.screens import screenshot  # noqa: PLC0415

    return screenshot(options.name, options.file, as_json=options.json)


def _view(options: argparse.Namespace) -> int:
    from bpferry.cli.screens import view  # noqa: PLC0415

    return view(options.command, options.name, only_print=options.print)


RUNNERS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "create": _create,
    "run": _run_vm,
    "check": _check,
    "convert": _convert,
    "capabilities": _capabilities,
    "list": _list,
    "status": _status,
    "stop": _stop,
    "start": _service,
    "restart": _service,
    "enable": _service,
    "disable": _service,
    "log": _log,
    "save": _save,
    "snapshot": _snapshot,
    "migrate": _migrate,
    "receive": _receive,
    "pause": _change,
    "resume": _change,
    "reset": _change,
    "ip": _ip,
    "ssh": _ssh,
    "screenshot": _screenshot,
    "vnc": _view,
    "spice": _view,
    "attach-nic": _attach_nic,
    "detach-nic": _detach_nic,
    "set-link": _set_link,
    "console": _console,
    "steering": _steering,
    "metrics": _metrics,
    "attach-disk": _attach_disk,
    "detach-disk": _detach_disk,
    "tap": _tap,
    "exec": _exec,
    "fds": _fds,
    "can-i": _can_i,
    "varlink": _varlink,
    "doctor": _doctor,
}
