#!/usr/bin/env bash
# Another release of RabbitMQ than the machine's own, for tests: Debian's, in a folder of its own.
#
#   tools/rabbitmq_chroot.sh make ROOT [SUITE]   install it with debootstrap (SUITE: sid; needs root)
#   tools/rabbitmq_chroot.sh programs ROOT INTO  write the programs that enter it into a folder INTO
#
# After that RABBITMQ_PROGRAMS=INTO has control/node.py, and so the tests, start the server there.
# A program runs in a mount namespace of its own, so that nothing has to be unmounted after it, with
# the machine's network, and sees the node's folder (its HOME) where it lies outside. ROOT is the
# lower layer of an overlay: it is never written to, and many may run on it at once.
#   DEBIAN_MIRROR  whence packages come (what the machine's own apt uses)
set -euo pipefail

say() { printf 'rabbitmq_chroot: %s\n' "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

mirror() {
  local lists=(/etc/apt/sources.list /etc/apt/sources.list.d/*)
  sed -nE 's/^(deb .*|URIs:.*)(https?:[^ ]+).*/\2/p' "${lists[@]}" 2>/dev/null |
    grep -v security | head -n 1
}

make_root() {
  local root=$1 suite=${2:-sid} from=${DEBIAN_MIRROR:-$(mirror)}
  [[ ! -e $root ]] || fail "$root is there already."
  [[ -n $from ]] || fail "No mirror of Debian is known: set DEBIAN_MIRROR."
  command -v debootstrap >/dev/null || fail "debootstrap is not installed."
  debootstrap --variant=minbase --include=rabbitmq-server "$suite" "$root" "$from"
}

write_programs() {
  local root into=$2 name
  root=$(realpath -- "$1")
  [[ -x $root/usr/lib/rabbitmq/bin/rabbitmq-server ]] || fail "$root has no RabbitMQ: make it first."
  mkdir -p -- "$into/layer"
  into=$(realpath -- "$into")
  for name in rabbitmq-server rabbitmqctl rabbitmq-queues rabbitmq-diagnostics; do
    # `exec` all the way, so that a signal to the program reaches the one inside.
    cat >"$into/$name" <<PROGRAM
#!/bin/sh
# Made by tools/rabbitmq_chroot.sh: $name of the RabbitMQ below $root.
exec unshare --mount --propagation private sh -euc '
below=\$1 layer=\$2 home=\$3
shift 3
mount -t tmpfs tmpfs "\$layer"
mkdir "\$layer/upper" "\$layer/work" "\$layer/root"
mount -t overlay -o "lowerdir=\$below,upperdir=\$layer/upper,workdir=\$layer/work" overlay "\$layer/root"
cd "\$layer/root"
cp /etc/hosts etc/hosts
mkdir -p "./\$home"
mount -t proc proc proc
mount --rbind /dev dev
mount --bind "\$home" "./\$home"
exec chroot . env --chdir="\$home" /usr/lib/rabbitmq/bin/$name "\$@"
' enter '$root' '$into/layer' "\$HOME" "\$@"
PROGRAM
    chmod +x "$into/$name"
  done
  say "RABBITMQ_PROGRAMS=$into"
}

case ${1:-}:$# in
make:2 | make:3) make_root "${@:2}" ;;
programs:3) write_programs "${@:2}" ;;
*) fail "usage: make ROOT [SUITE] | programs ROOT INTO" ;;
esac
