#!/usr/bin/env bash
# Runs what depends on the broker's release on another one than this machine's, and on a cluster of it.
#
# On the RabbitMQ that RABBITMQ_PROGRAMS names; where it names none, on Debian's newest in a folder
# of its own, which is made once (root, debootstrap, 400 MB) and kept.
#   BROKER_CHECK_ROOT    that folder (.imagegen/rabbitmq-newest)
#   BROKER_CHECK_PYTHON  the Python with the tests' packages (.venv/bin/python)
#   arguments            go to pytest, in place of all tests
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

if [[ -z ${RABBITMQ_PROGRAMS:-} ]]; then
  root=${BROKER_CHECK_ROOT:-$PWD/.imagegen/rabbitmq-newest}
  [[ -d $root ]] || tools/rabbitmq_chroot.sh make "$root"
  tools/rabbitmq_chroot.sh programs "$root" "$PWD/.imagegen/rabbitmq-programs"
  export RABBITMQ_PROGRAMS=$PWD/.imagegen/rabbitmq-programs
fi

tests=(
  # the table, and who may do what
  tests/test_topology.py tests/test_provision.py tests/test_rights.py tests/test_doctor.py
  tests/test_tls.py tests/full/test_broker_tls.py tests/full/test_broker_cluster.py
  # the promises of the service: bound, replies, dead letters, parking, links, redeliveries
  tests/test_service.py tests/test_service_ends.py tests/test_promises.py tests/test_replies.py
  tests/test_presence.py tests/test_dead_work.py tests/test_parking.py tests/test_hostile.py
  tests/test_guard.py tests/test_link.py tests/test_stalled_link.py tests/test_black_hole.py
  tests/test_two_consumers.py tests/test_wire.py
  # those who call it
  tests/test_client.py tests/test_client_jobs.py tests/test_client_retry.py
  tests/test_client_submit.py tests/test_client_trouble.py tests/test_plain_clients.py
)
if [[ $# -gt 0 ]]; then tests=("$@"); fi
exec "${BROKER_CHECK_PYTHON:-.venv/bin/python}" -m pytest --numprocesses=0 "${tests[@]}"
