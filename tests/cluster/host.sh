#!/usr/bin/env bash
# One machine of the test cluster, as process 1 of its own PID, mount and UTS namespaces: a home folder and a /tmp/ray of its
# own, and an SSH server.
# usage: host.sh FOLDER NAME ADDRESS
set -euo pipefail
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd # says where the home folder is
mkdir -p /tmp/ray /run/sshd
mount --bind "$1/ray" /tmp/ray
hostname "$2"
exec /usr/sbin/sshd -D -e -f /dev/null -o ListenAddress="$3" -o HostKey="$1/host_key" -o AuthorizedKeysFile="$1/authorized_keys" \
    -o PidFile=none -o UsePAM=no -o StrictModes=no -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password \
    -o UseDNS=no -o MaxStartups=100 -o MaxSessions=100
