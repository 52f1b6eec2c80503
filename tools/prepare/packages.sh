# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# What the tools share: say what happens, install what is missing, make a virtual environment.
# Sourced, never run. The caller sets "repository" to the clone's folder first.
#
# Everything that is made here lies below one cache folder, and third-party packages only: the
# project's own code is always imported from the clone.

: "${repository:?the caller sets it}"
cache=/var/cache/bpferry
python=/usr/bin/python3
# QEMU passes eBPF fds to virtio-net since 9.0.
qemu_at_least=1:9.0

# Progress goes to standard error: standard output is the caller's, who may print JSON there.
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

# Show the comment at the head of the running script if one of the arguments asks for help.
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

# The release's code name ("bookworm"), or the end: packages have other names elsewhere.
debian_release() {
    # shellcheck disable=SC1091 # the system's own file
    release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    case $release in
    bookworm | trixie) printf '%s\n' "$release" ;;
    *) die "this is no Debian 12 or 13 but '${release:-unknown}'" \
        "install by hand what the head of this script names" ;;
    esac
}

# Run a step: on a terminal with all it prints, else in silence; when it fails, with its last words.
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

# Which of the named packages are not installed, one a line.
missing() {
    for package in "$@"; do
        # shellcheck disable=SC2016 # the format is dpkg's, not the shell's
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
        [ "$status" = installed ] || printf '%s\n' "$package"
    done
}

# Read lines "PACKAGE  what for", and install the packages that are missing, after saying so.
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

# Install a list of packages, with further options of apt-get if given.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    if apt_lists_are_missing; then
        step "fetching the package lists" apt-get update
    elif ! apt_get_install --dry-run "$@" >/dev/null 2>&1; then
        step "fetching the package lists anew: they do not have everything" apt-get update
    fi
    step "installing: $1" apt_install_now "$@"
}

# Call "apt-get install OPTION", with a list of packages as one word, and further options.
apt_get_install() {
    apt_option=$1
    apt_packages=$2
    shift 2
    # shellcheck disable=SC2086 # a list of names
    apt-get install "$apt_option" --no-install-recommends "$@" $apt_packages
}

# A mirror throws old versions away; with lists from before that, a download fails.
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

# The address of the mirror that this machine has its release from.
debian_mirror() {
    # shellcheck disable=SC2016 # the format is apt's, not the shell's
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$(debian_release)" '$1 == release { print $2; exit }')
    [ -n "$mirror" ] || die "apt has no lists of its own release" "apt-get update"
    printf '%s\n' "$mirror"
}

# QEMU for PCs, new enough to take eBPF fds. Debian 12 has it in its backports only.
install_qemu() {
    if [ -z "$(missing qemu-system-x86)" ]; then
        # shellcheck disable=SC2016 # the format is dpkg's, not the shell's
        installed=$(dpkg-query -W -f '${Version}' qemu-system-x86)
        dpkg --compare-versions "$installed" lt "$qemu_at_least" || return 0
        say "QEMU $installed is older than ${qemu_at_least#*:}, which takes no eBPF fds: will upgrade"
    else
        say "will install qemu-system-x86: the QEMU that runs the guests and carries the program"
    fi
    if [ "$(debian_release)" = bookworm ]; then
        add_backports
        apt_install qemu-system-x86 --target-release bookworm-backports
    else
        apt_install qemu-system-x86
    fi
}

# Read lines "PACKAGE  what for" of what has to be of QEMU's own release, and install what is missing.
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

# The headers of the libbpf that is installed: in Debian 12, QEMU may have brought the backports' one.
install_libbpf_dev() {
    [ -n "$(missing libbpf-dev)" ] || return 0
    say "will install libbpf-dev: headers and library for the C programs that we compare with"
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
    backports=/etc/apt/sources.list.d/bpferry-backports.list
    mirror=$(debian_mirror)
    say "adding bookworm-backports in $backports, for QEMU ${qemu_at_least#*:} or newer"
    printf 'deb [signed-by=%s] %s bookworm-backports main\n' \
        /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" >"$backports"
    step "fetching its package lists" apt-get update
}

# Print what the extras of this project require, and for which Python.
requirements() {
    printf '# %s\n' "$("$python" -VV | tr '\n' ' ')"
    "$python" -I "$repository/tools/prepare/requirements.py" "$repository/pyproject.toml" "$@" ||
        die "cannot read '$repository/pyproject.toml'"
}

# Make a virtual environment in a folder, once for each state of the requirements and each Python.
# The list in it is written last: a folder without one was left half made.
make_venv() {
    venv_folder=$1
    shift
    venv_list=$(requirements "$@")
    [ "$(cat "$venv_folder/requirements.txt" 2>/dev/null)" != "$venv_list" ] || return 0
    rm -rf "$venv_folder"
    mkdir -p "$venv_folder"
    step "making a virtual environment in $venv_folder" "$python" -m venv "$venv_folder"
    printf '%s\n' "$venv_list" >"$venv_folder/requirements.new"
    step "fetching into it: $(printf '%s' "$venv_list" | tail -n +2 | tr '\n' ' ')" \
        "$venv_folder/bin/python3" -m pip install --no-cache-dir \
        --requirement "$venv_folder/requirements.new"
    mv "$venv_folder/requirements.new" "$venv_folder/requirements.txt"
}

# The environment for some extras (default: test), in $venv: a folder for each Python and each list.
venv() {
    [ $# -gt 0 ] || set -- test
    venv=$cache/venv-$(requirements "$@" | sha256sum | cut -c 1-16)
    make_venv "$venv" "$@"
}
