#!/usr/bin/env bash
# Puts this checkout into an environment of its own below RUNNER_TEMP, from hash-pinned requirements, and runs
# the door of GitHub Actions in it. Nothing gets on the PATH of later steps but `secure-build`.
set -euo pipefail

stop() { # MESSAGE [HINT]
    local said=${1//'%'/%25}
    said=${said//$'\r'/%0D}
    printf '::error title=secure-build::%s%s\n' "${said//$'\n'/%0A}" "${2:+%0Ahint: $2}"
    echo "status=unsupported" >>"$GITHUB_OUTPUT"
    exit 3
}

[[ ${RUNNER_OS:-Linux} == Linux ]] || stop "secure-build needs a Linux runner, and this one has $RUNNER_OS" \
    "runs-on: ubuntu-latest"
: "${RUNNER_TEMP:?is set by the runner}"

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
own=$RUNNER_TEMP/secure-build
python=${ACTION_PYTHON:-python3}

state() { # what the environment is made of
    "$python" -I -c 'import sys; print(sys.version_info >= (3, 11), sys.executable, sys.version)' &&
        printf '%s\n' "$root" &&
        sha256sum <"$root/requirements/main.txt"
}

install() {
    echo "::group::secure-build: install"
    # what there are no wheels of for s390x comes from the distribution
    local kind=()
    [[ $(uname -m) != s390x ]] || kind=(--system-site-packages)
    "$python" -I -m venv --clear "${kind[@]}" "$own/venv" || stop "\`$python\` makes no virtual environment" \
        "install python3-venv, or name another interpreter with the input \`python\`"
    local options=(--disable-pip-version-check --no-input --quiet --require-hashes --only-binary :all: --no-deps)
    if [[ -n ${ACTION_CACHE:-} ]]; then
        # wheels only, and checked again as they are installed
        "$own/venv/bin/python" -I -m pip download "${options[@]}" --dest "$ACTION_CACHE" \
            --find-links "$ACTION_CACHE" --requirement "$root/requirements/main.txt" ||
            stop "what secure-build needs could not be installed" "pip says why, above"
        options+=(--no-index --find-links "$ACTION_CACHE")
    fi
    "$own/venv/bin/python" -I -m pip install "${options[@]}" --ignore-installed \
        --requirement "$root/requirements/main.txt" ||
        stop "what secure-build needs could not be installed" "pip says why, above; where a hash differs, do not go on"
    "$own/venv/bin/python" -I -c 'import cryptography as c; raise SystemExit(int(c.__version__.split(".")[0]) < 43)' ||
        stop "\`$python\` has no package cryptography, 43 or newer, and there is none to install for $(uname -m)" \
            "take a runner or container with python3-cryptography of Debian 13, Ubuntu 25.04 or newer"
    # the checkout itself, without a build
    "$own/venv/bin/python" -I - "$root/pipeline" <<'END'
import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "secure-build.pth").write_text(sys.argv[1] + "\n")
END
    mkdir -p "$own/bin"
    # shellcheck disable=SC2016 # for the shell that runs it
    printf '#!/bin/sh\nexec "${0%%/*}/../venv/bin/python" -I -m secure_build "$@"\n' >"$own/bin/secure-build"
    chmod +x "$own/bin/secure-build"
    echo "$own/bin" >>"$GITHUB_PATH"
    printf '%s\n' "$1" >"$own/ready"
    echo "::endgroup::"
}

now=$(state 2>/dev/null) || stop "\`$python\` does not run" "name an interpreter with the input \`python\`"
[[ $now == True* ]] || stop "\`$python\` is older than Python 3.11" \
    "name a newer one with the input \`python\`, or use a newer runner"
[[ -f $own/ready && $(<"$own/ready") == "$now" ]] || install "$now"
exec "$own/venv/bin/python" -I -m secure_build.doors.github
