# How the scripts speak, and how they install what is missing. Sourced, not run.

if [[ -t 1 || -n ${FORCE_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' dim='' green='' red='' yellow='' plain=''
fi

ok() { printf '   %s✔%s %s\n' "$green" "$plain" "$*"; }
bad() { printf '   %s✘ %s%s\n' "$red" "$*" "$plain"; }
note() { printf '     %s%s%s\n' "$dim" "$*" "$plain"; }

# Shows text from stdin, indented, as evidence.
evidence() { sed "s/^/     ${dim}│${plain} /"; }

need_root() {
    if [[ $(id -u) -ne 0 ]]; then
        echo "$0: network namespaces need root; run it as root" >&2
        exit 2
    fi
}

# install_missing PROGRAM=PACKAGE|/FILE=PACKAGE ... : apt-get installs the packages whose program or file is not there.
install_missing() {
    local pair what missing=()
    for pair in "$@"; do
        what=${pair%%=*}
        if [[ $what == /* ]]; then
            [[ -e $what ]] || missing+=("${pair#*=}")
        else
            command -v "$what" >/dev/null || missing+=("${pair#*=}")
        fi
    done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    if ! command -v apt-get >/dev/null; then
        echo "missing, and there is no apt-get to install it: ${missing[*]}" >&2
        exit 2
    fi
    note "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # servers that are installed must not start as services: we run our own
    local policy=/usr/sbin/policy-rc.d ours=''
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=yes
    fi
    apt_install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/tmp/sixway-apt.log 2>&1; }
    if ! apt_install; then
        apt-get update -qq </dev/null >>/tmp/sixway-apt.log 2>&1 || true
        if ! apt_install; then
            [[ -n $ours ]] && rm -f $policy
            tail -5 /tmp/sixway-apt.log >&2
            echo "apt-get could not install: ${missing[*]}" >&2
            exit 2
        fi
    fi
    [[ -n $ours ]] && rm -f $policy
    # nor at the next boot
    if command -v systemctl >/dev/null; then
        dpkg -L "${missing[@]}" 2>/dev/null | sed -n 's|.*/systemd/system/\([^/@]*\.service\)$|\1|p' |
            xargs -r systemctl disable --quiet 2>/dev/null || true
    fi
    return 0
}

# What building takes.
build_needs=(clang=clang llc=llvm /usr/include/stdlib.h=libc6-dev /usr/include/bpf/bpf_helpers.h=libbpf-dev /usr/include/linux/bpf.h=linux-libc-dev cc=gcc)

# Finds cargo where rustup leaves it.
find_cargo() {
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null; then
        echo "Rust is missing: https://rustup.rs" >&2
        exit 2
    fi
}
