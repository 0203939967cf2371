#!/usr/bin/env bash
# Installs the three distributions of this repository into a virtual environment, with the versions of constraints.txt.
#   scripts/install.sh VENV cpu|gpu [EXTRA]…
# Installed from a checkout they are editable; EDITABLE=0 installs copies (container images).
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1 device=$2
shift 2
extras=$(IFS=,; echo "$device${*:+,$*}")
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
editable=(-e)
[ "${EDITABLE:-1}" = 0 ] && editable=()

log=$venv/install.log
: >"$log"

# Runs a command with its output in the log: a line with a clock on a terminal, the log's end when it fails.
step() {
    local told=$1 began=$SECONDS work
    shift
    "$@" >>"$log" 2>&1 &
    work=$!
    trap 'kill "$work" 2>/dev/null; exit 130' INT TERM  # bash hides both signals from what runs behind it
    if [ -t 2 ]; then
        while kill -0 "$work" 2>/dev/null; do
            printf '\r\033[K%s … %d s: %s' "$told" $((SECONDS - began)) "$(tail -n 1 "$log" | cut -c 1-50)" >&2
            sleep 1
        done
        printf '\r\033[K' >&2
    fi
    if ! wait "$work"; then
        echo "$told: failed. The end of $log:" >&2
        tail -n 25 "$log" >&2
        exit 1
    fi
    trap - INT TERM
    echo "$told: done in $((SECONDS - began)) s" >&2
}

torch=$(sed -n 's/^torch==//p' constraints.txt)
cpu_index=https://download.pytorch.org/whl/cpu

# Whether pip sees the CPU build of torch, which on Linux is a build of its own (a local version).
finds_cpu_torch() {
    "${pip[@]}" index versions torch "$@" 2>/dev/null | grep -qF "$torch+cpu"
}

# The default index gives Linux the CUDA build: gigabytes that a machine without an NVIDIA device cannot use.
if [ "$device" = cpu ] && [ "$(uname -s)" = Linux ]; then
    if finds_cpu_torch; then
        step "Installing torch $torch, CPU build" "${pip[@]}" install -c constraints.txt "torch==$torch+cpu"
    elif finds_cpu_torch --index-url "$cpu_index" --retries 0 --timeout 5; then
        step "Installing torch $torch, CPU build" \
            "${pip[@]}" install --no-deps --index-url "$cpu_index" "torch==$torch+cpu"
    else
        echo "No CPU build of torch $torch is in reach (pip's own sources, $cpu_index): taking the default build." >&2
    fi
fi

# One command: given one by one, pip would look for atelier-protos on the index.
step "Installing Atelier and what it needs" "${pip[@]}" install -c constraints.txt \
    ${editable[@]+"${editable[@]}"} ./protos \
    ${editable[@]+"${editable[@]}"} './clients/python[cli]' \
    ${editable[@]+"${editable[@]}"} ".[$extras]"
