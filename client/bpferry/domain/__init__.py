# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM is, as a frozen value, and the two kinds of document that become it.

    model       the value, class by class; each field knows its place in a libvirt document
    binding     how a field says that; shape has the trees that follow from it
    document    read either kind into the model, and write the model as either
    xml         libvirt's form: xml_reader, xml_writer, and ignored, what is passed over and why
    toml        the native form: shorthand and shorthand_disks, what it leaves unsaid
    sizes       amounts with units, in both
    checks      what has to hold beyond types
    origins     where in its document a part stood; explain, what is wrong with it
    lint        what is sound and still not well designed

Depends on: errors; msgspec, defusedxml and tomli_w.
Never does: start a process, open a device, or look whether a file that is named exists.
"""
