# Empty Linux roots to try things in; scripts/try-install and scripts/try-aarch64 source this file.
#
# A root lies in memory, in a mount namespace of the script's own: when the script ends, however it
# ends, the kernel undoes the mounts and frees the memory.

# Processes that the script starts anew count from the same second.
export NETRING_BEGUN=${NETRING_BEGUN:-$EPOCHSECONDS}

# Prints a line of progress with the time since the start.
say() {
    local took=$((EPOCHSECONDS - NETRING_BEGUN))
    printf '[%2d:%02d] %s\n' $((took / 60)) $((took % 60)) "$*"
}
die() { say "failed: $*" >&2; exit 1; }

# Runs the script again in namespaces of its own, and sets $place, the folder of the roots.
in_own_namespaces() {
    ((EUID == 0)) || die "this needs root: it mounts file systems and changes roots"
    if [[ ${NETRING_ROOTS:-} != "$$" ]]; then
        # The shell that exec replaces keeps its number, and the namespaces' first process asks.
        exec unshare --mount --propagation private --fork --kill-child \
            bash -c 'NETRING_ROOTS=$$ exec "$0" "$@"' "$0" "$@"
    fi
    place=$(mktemp -d -t netring-roots.XXXXXXXX)
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mount -t tmpfs -o size=12g,mode=755 netring-roots "$place"
}

# What else has to be undone; a script may add to it.
undo=()
leave() {
    local status=$? step
    set +e
    for step in "${undo[@]}"; do
        eval "$step"
    done
    cd /
    umount --recursive --lazy "$place"
    rmdir -- "$place"
    exit "$status"
}

# needs COMMAND=PACKAGE...: names the packages of the commands that are missing.
needs() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    ((!${#missing[@]})) || die "run: apt-get update &&" \
        "apt-get install --yes --no-install-recommends ${missing[*]}"
}

# Shows a command, then runs it; its output is shown only if it fails.
quietly() {
    local status=0
    say "$ $*"
    "$@" >"$place/log" 2>&1 || status=$?
    ((!status)) || { tail -n 40 "$place/log" >&2; die "exit status $status: $*"; }
}

# Shows a command, then runs it, with its output.
openly() {
    say "$ $*"
    "$@" 2>&1 | sed 's/^/        /' || return "${PIPESTATUS[0]}"
}

# prepare ROOT: what a root needs to run programs and to install packages.
prepare() {
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    # Nothing that is installed starts a service.
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
}

# inside ROOT COMMAND...: runs a command in a root, with little of this machine's environment.
inside() {
    local root=$1
    shift
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LC_ALL=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy=$http_proxy} \
        ${https_proxy:+https_proxy=$https_proxy} "${within[@]}" chroot "$root" "$@"
}
within=()

# gone ROOT: unmounts a root and frees its memory; goes into no other file system.
gone() {
    umount --recursive --lazy "$1/dev" "$1/proc"
    rm -rf --one-file-system -- "$1"
}

# wheels_for VERSION MACHINE FOLDER REQUIREMENT...: downloads the wheels that a Python takes there.
wheels_for() {
    local version=$1 machine=$2 folder=$3 policy platforms=()
    shift 3
    for policy in 2_34 2_28 2_27 2_26 2_24 2_17; do
        platforms+=(--platform "manylinux_${policy}_$machine")
    done
    quietly python3 -m pip --disable-pip-version-check download --quiet --only-binary :all: \
        --python-version "$version" --implementation cp "${platforms[@]}" \
        --platform "manylinux2014_$machine" --dest "$folder" "$@"
}
