# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM is, as a frozen value, and the two kinds of document that describe it.

    model            the value, class by class; each field knows its place in a libvirt document
    names            what the devices of a VM are called
    architectures    what kinds of guests are called, by documents and by QEMU
    digest           hashes without OpenSSL
    identity         the UUID and the addresses that a description leaves out
    binding          how fields are bound to places in XML
    later            classes of the model that are imported when a document has them
    shape            the trees of elements that follow from the bindings
    document         read either kind into the model, and write the model as either
    xml              the text of libvirt's form
    xml_reader       from elements to the model
    unfinished       a table of the model while its element is read
    xml_values       from the text of one place to a value
    xml_writer       from the model to elements
    ignored          what is ignored in a libvirt document, and why
    spots            one place of such a document while it is read
    refusals         what a user is told of what is not supported
    refused          why a place in a libvirt document is refused
    reasons          the reasons themselves
    global_quota     a quota of each processor, as one of all together
    patterns         patterns of places in a libvirt document
    toml             the native form
    toml_places      where each of its keys is
    conversion       from plain values to the model
    variables        values for what a native description leaves open
    toml_syntax      what is wrong with a text that is not TOML
    shorthand        what can be left out in the native form
    shorthand_disks  the same for disks
    sizes            amounts with units, in both forms
    checks           what has to hold beyond types
    remaining        lists of which something was left out
    leaving_out      a VM without something that was refused
    salvage          a VM without what is wrong in its description
    origins          where each part was in its document
    forms            words for both forms in one text, of which users see theirs
    bounds           hold a value to the type of its field, and say what is possible
    mistakes         every mistake in a native description, in the words of msgspec
    explain          the same in our words, with places and what to write
    unknown_keys     what to write in place of a key that there is not
    vlan_tags        VLANs with and without tags, as libvirt and the model write them
    suggestions      what was meant by a name that there is not
    stop_time        how long a guest may take to power down
    shown            a value as a message repeats it

Depends on: errors; msgspec, defusedxml and tomli_w.
Never does: start a process, open a device, or look whether a file that is named exists.
"""
