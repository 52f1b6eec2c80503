# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# What the tools share: print progress, install missing packages, make a virtual environment.
# Sourced, never run. The caller sets "repository" to the clone's folder first.
#
# Everything made here is below one cache folder, and only contains third-party packages: the
# project's own code is always imported from the clone.

: "${repository:?the caller sets it}"
cache=/var/cache/bpferry
python=/usr/bin/python3
# virtio-net accepts eBPF fds since QEMU 9.0.
qemu_at_least=1:9.0
backports=/etc/apt/sources.list.d/bpferry-backports.list

# Progress goes to standard error: the caller may print JSON on standard output.
say() {
    printf '==> %s\n' "$*" >&2
}

warn() {
    printf '%s: warning: %s\n' "${0##*/}" "$*" >&2
}

die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# Print the comment at the top of the running script if one of the arguments asks for help.
help_if_asked() {
    for help_word in "$@"; do
        case $help_word in
        -h | --help)
            awk 'NR > 3 && !/^#/ { exit } NR > 3 { sub(/^# ?/, ""); print }' "$0"
            exit 0
            ;;
        esac
    done
}

need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root" "sudo $0"
}

# The release's code name ("bookworm"). Exits on other systems, where packages have other names.
debian_release() {
    # shellcheck disable=SC1091 # the system's own file
    release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    case $release in
    bookworm | trixie) printf '%s\n' "$release" ;;
    *) die "this is not Debian 12 or 13 but '${release:-unknown}'" \
        "install by hand the packages that this script lists" ;;
    esac
}

# Run a step: on a terminal with its output, otherwise silently, but with its last lines if it fails.
step() {
    say "$1"
    shift
    if [ -t 2 ]; then
        "$@" >&2 || die "failed: $*"
        return
    fi
    step_log=$(mktemp)
    if ! "$@" >"$step_log" 2>&1; then
        tail -n 40 "$step_log" >&2
        rm -f "$step_log"
        die "failed: $*"
    fi
    rm -f "$step_log"
}

# Which of the given packages are not installed, one per line.
missing() {
    for package in "$@"; do
        # shellcheck disable=SC2016 # the format is dpkg's, not the shell's
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || printf '%s\n' "$package"
    done
}

# Read lines "PACKAGE  REASON", and install the missing packages after saying so.
install_missing() {
    wanted=
    while read -r package reason; do
        [ -n "$package" ] || continue
        [ -n "$(missing "$package")" ] || continue
        say "will install $package: $reason"
        wanted="$wanted${wanted:+ }$package"
    done
    [ -z "$wanted" ] || apt_install "$wanted"
}

# Install a list of packages, with more options for apt-get if given.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    if apt_lists_are_missing; then
        step "fetching the package lists" apt-get update
    elif ! apt_get_install --dry-run "$@" >/dev/null 2>&1; then
        step "updating the package lists: they do not have everything" apt-get update
    fi
    step "installing: $1" apt_install_now "$@"
}

# Call "apt-get install OPTION" with a list of packages as one word, and more options.
apt_get_install() {
    apt_option=$1
    apt_packages=$2
    shift 2
    # shellcheck disable=SC2086 # a list of names
    apt-get install "$apt_option" --no-install-recommends "$@" $apt_packages
}

# Mirrors delete old versions; with older package lists, a download fails.
# shellcheck disable=SC2317 # called through step
apt_install_now() {
    now_packages=$1
    shift
    # shellcheck disable=SC2086 # a list of names
    apt-get install --yes --no-install-recommends "$@" $now_packages && return
    # shellcheck disable=SC2086 # a list of names
    apt-get update && apt-get install --yes --no-install-recommends "$@" $now_packages
}

apt_lists_are_missing() {
    ! find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' 2>/dev/null | grep -q .
}

# The address of the mirror that this machine's release comes from.
debian_mirror() {
    # shellcheck disable=SC2016 # the format is apt's, not the shell's
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$(debian_release)" '$1 == release { print $2; exit }')
    [ -n "$mirror" ] || die "apt has no package lists of this release" "apt-get update"
    printf '%s\n' "$mirror"
}

# QEMU for PCs, new enough to accept eBPF fds. On Debian 12 it is only in backports.
install_qemu() {
    if [ -z "$(missing qemu-system-x86)" ]; then
        # shellcheck disable=SC2016 # the format is dpkg's, not the shell's
        installed=$(dpkg-query -W -f '${Version}' qemu-system-x86)
        dpkg --compare-versions "$installed" lt "$qemu_at_least" || return 0
        say "QEMU $installed is older than ${qemu_at_least#*:} and accepts no eBPF fds: will upgrade"
    else
        say "will install qemu-system-x86: runs the guests and carries the eBPF program"
    fi
    if [ "$(debian_release)" = bookworm ]; then
        add_backports
        apt_install qemu-system-x86 --target-release bookworm-backports
    else
        apt_install qemu-system-x86
    fi
}

# Read lines "PACKAGE  REASON" of packages that must be of QEMU's release, and install missing ones.
install_beside_qemu() {
    while read -r package reason; do
        [ -n "$package" ] || continue
        [ -n "$(missing "$package")" ] || continue
        say "will install $package: $reason"
        if [ "$(debian_release)" = bookworm ]; then
            add_backports
            apt_install "$package" --target-release bookworm-backports </dev/null
        else
            apt_install "$package" </dev/null
        fi
    done
}

# The headers of the installed libbpf: on Debian 12, QEMU may have brought the one from backports.
install_libbpf_dev() {
    [ -n "$(missing libbpf-dev)" ] || return 0
    say "will install libbpf-dev: headers and library for the C programs to compare with"
    # shellcheck disable=SC2016 # the format is dpkg's, not the shell's
    case $(dpkg-query -W -f '${Version}' libbpf1) in
    *bpo12*) apt_install libbpf-dev --target-release bookworm-backports ;;
    *) apt_install libbpf-dev ;;
    esac
}

add_backports() {
    # shellcheck disable=SC2016 # the format is apt's, not the shell's
    if apt-get indextargets --format '$(RELEASE) $(CODENAME)' 'Created-By: Packages' |
        grep -q bookworm-backports; then
        return
    fi
    apt_lists_are_missing && step "fetching the package lists" apt-get update
    mirror=$(debian_mirror)
    say "adding bookworm-backports in $backports, for QEMU ${qemu_at_least#*:} or newer"
    printf 'deb [signed-by=%s] %s bookworm-backports main\n' \
        /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" >"$backports"
    step "fetching its package lists" apt-get update
}

# Print what goes into an environment, and for which Python: the client's packages with hashes, or
# what this project's extras require.
requirements() {
    printf '# %s\n' "$("$python" -VV | tr '\n' ' ')"
    if [ "$*" = client ]; then
        cat "$repository/tools/prepare/client.txt"
        return
    fi
    "$python" -I "$repository/tools/prepare/requirements.py" "$repository/pyproject.toml" "$@" ||
        die "cannot read '$repository/pyproject.toml'"
}

# Make a virtual environment in a folder, again whenever the requirements or Python have changed.
# The list in it is written last: a folder without one is incomplete.
# -I: with -m alone, Python would first look for the module in the current folder, anybody's perhaps.
make_venv() {
    venv_folder=$1
    shift
    venv_list=$(requirements "$@")
    [ "$(cat "$venv_folder/requirements.txt" 2>/dev/null)" != "$venv_list" ] || return 0
    rm -rf "$venv_folder"
    mkdir -p "$venv_folder"
    step "making a virtual environment in $venv_folder" "$python" -I -m venv "$venv_folder"
    printf '%s\n' "$venv_list" >"$venv_folder/requirements.new"
    step "fetching into it: $(printf '%s' "$venv_list" | sed -n 's/^\([a-z][^; ]*\).*/\1/p' | tr '\n' ' ')" \
        "$venv_folder/bin/python3" -I -m pip install --no-cache-dir \
        --requirement "$venv_folder/requirements.new"
    mv "$venv_folder/requirements.new" "$venv_folder/requirements.txt"
}

# The environment for some extras (default: test), in $venv: one folder per Python and list.
venv() {
    [ $# -gt 0 ] || set -- test
    venv=$cache/venv-$(requirements "$@" | sha256sum | cut -c 1-16)
    make_venv "$venv" "$@"
}
