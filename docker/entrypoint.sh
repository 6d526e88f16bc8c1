#!/bin/bash
# Runs the command as whoever owns the mounted project, so that what it writes belongs to them.
set -euo pipefail

fail() {
    echo "error: $1" >&2
    exit 1
}

# CUDA 13, which PyTorch's wheels bring, needs this driver or a newer one.
readonly oldest_driver=580
if command -v nvidia-smi >/dev/null && driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null); then
    driver=${driver%%$'\n'*}
    if [[ ${driver%%.*} -lt $oldest_driver ]]; then
        fail "the host's NVIDIA driver is $driver; PyTorch's CUDA 13 needs $oldest_driver or newer. Update the driver on the host, or set \`device: cpu\` and start without GPUs."
    fi
fi

[[ -e /project/dvc.yaml ]] || fail "/project holds no dvc.yaml. Mount the project there: --volume \"\$PWD\":/project"

uid=$(stat --format %u /project)
gid=$(stat --format %g /project)
export HOME=/tmp/home
mkdir -p "$HOME"
if [[ $(id -u) == 0 ]]; then
    # Git and sshd ask for a name; no password fits '*', and unlike '!' it does not lock the account out of sshd.
    getent group "$gid" >/dev/null || groupadd --gid "$gid" project
    getent passwd "$uid" >/dev/null || useradd --password '*' --uid "$uid" --gid "$gid" --home-dir "$HOME" --shell /bin/bash --no-create-home project
    chown "$uid:$gid" "$HOME"
    as_owner=(setpriv --reuid="$uid" --regid="$gid" --init-groups)
else
    as_owner=()
fi
"${as_owner[@]}" test -w /project ||
    fail "/project is not writable for its owner's uid, $uid. Results are written there: mount it without :ro."

if [[ ${1:-} == sshd ]]; then
    keys=/run/authorized_keys
    [[ -n ${AUTHORIZED_KEYS:-} ]] || fail "AUTHORIZED_KEYS is empty; give the public keys that may log in: --env AUTHORIZED_KEYS=\"\$(cat ~/.ssh/id_ed25519.pub)\""
    [[ $uid != 0 ]] || fail "the project belongs to root, who may not log in by SSH. Give it to a user: chown -R 1000:1000 on the host."
    echo "$AUTHORIZED_KEYS" >"$keys"
    ssh-keygen -A >/dev/null
    mkdir -p /run/sshd
    echo "ssh: $(getent passwd "$uid" | cut -d: -f1) may log in on port 2222, by key"
    exec /usr/sbin/sshd -D -e -o "SetEnv=VENV=$VENV PATH=$PATH PROJECT_IMAGE=$PROJECT_IMAGE"
fi
exec "${as_owner[@]}" "$@"
