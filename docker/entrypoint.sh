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
# Python and Git ask for a name, which a uid given by `--user` does not have.
export USER=project LOGNAME=project
# No program that runs inside gains rights by a setuid bit.
as_owner=(setpriv --no-new-privs)
writer=$(id -u)
if [[ $(id -u) == 0 && $uid == 0 ]]; then
    # The host's root, or its user, whom rootless podman shows as root.
    export HOME=/root
elif [[ $(id -u) == 0 ]]; then
    # `project`, a user of the image, becomes the owner. --non-unique: the image may have that uid under another name.
    groupmod --non-unique --gid "$gid" project
    usermod --non-unique --uid "$uid" --gid "$gid" project >/dev/null
    export HOME=/home/project
    writer=$uid
    as_owner+=(--reuid="$uid" --regid="$gid" --init-groups)
else
    export HOME=/tmp/home
    mkdir -p "$HOME"
fi
"${as_owner[@]}" test -w /project ||
    fail "/project, which belongs to uid $uid, is not writable for uid $writer. Results are written there: mount it without :ro, and let \`--user\`, if you give one, name its owner."

if [[ ${1:-} == sshd ]]; then
    keys=/run/authorized_keys
    [[ -n ${AUTHORIZED_KEYS:-} ]] || fail "AUTHORIZED_KEYS is empty; give the public keys that may log in: --env AUTHORIZED_KEYS=\"\$(cat ~/.ssh/id_ed25519.pub)\""
    [[ $uid != 0 ]] || fail "the project belongs to root, who may not log in by SSH. Give it to a user on the host: chown -R 1000:1000 . (with rootless podman: --userns keep-id --user 0)"
    echo "$AUTHORIZED_KEYS" >"$keys"
    ssh-keygen -A >/dev/null
    mkdir -p /run/sshd
    echo "ssh: project may log in on port 2222, by key"
    exec /usr/sbin/sshd -D -e -o "SetEnv=VENV=$VENV PATH=$PATH PROJECT_IMAGE=$PROJECT_IMAGE"
fi
if [[ $$ != 1 || -t 0 ]]; then
    exec "${as_owner[@]}" "$@"
fi

# `docker stop` and Kubernetes send SIGTERM to process 1 alone, and DVC does not pass it on. All get it here, so that
# training saves its checkpoint; the container ends when the last of them has.
stop() {
    trap '' TERM INT
    kill -TERM -1 2>/dev/null || true
    while kill -0 -1 2>/dev/null; do sleep 0.1; done
    exit 143
}
trap stop TERM INT
"${as_owner[@]}" "$@" <&0 &
status=0
wait $! || status=$?
exit "$status"
