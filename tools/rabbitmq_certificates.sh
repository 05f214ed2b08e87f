#!/usr/bin/env bash
# Certificates for a broker with TLS, for development: a CA of one's own, the broker's, a client's.
#
#   tools/rabbitmq_certificates.sh INTO [NAME...]
#
# The broker's certificate is for localhost, 127.0.0.1, ::1 and the names and addresses given. INTO
# gets ca.pem, server.pem, server.key, client.pem, client.key. The CA's key is thrown away, so that
# nothing else can be signed with it; for new names everything is made anew.
#   DAYS    how long they are good (365)
#   CLIENT  common name of the client's certificate (imagegen-client)
set -euo pipefail
umask 077

[[ $# -ge 1 ]] || {
  printf 'usage: %s INTO [NAME...]\n' "$0" >&2
  exit 1
}
into=$1
shift
days=${DAYS:-365}
mkdir -p -- "$into"
work=$(mktemp -d)
# What openssl says is of interest only where it fails.
trap 'code=$?; [[ $code -eq 0 ]] || cat -- "$work/said" >&2; rm -rf -- "$work"; exit "$code"' EXIT

names=DNS:localhost,IP:127.0.0.1,IP:::1
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then names+=,IP:$name; else names+=,DNS:$name; fi
done
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

openssl req -x509 "${key[@]}" -days "$days" -subj "/CN=imagegen development CA" \
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$work/ca.key" -out "$into/ca.pem" 2>>"$work/said"

sign() {
  local file=$1 subject=$2 usage=$3 alternative=$4
  openssl req "${key[@]}" -subj "/CN=$subject" -keyout "$into/$file.key" -out "$work/$file.csr" 2>>"$work/said"
  printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
    "extendedKeyUsage=$usage" "subjectAltName=$alternative" \
    "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" >"$work/$file.ext"
  openssl x509 -req -in "$work/$file.csr" -CA "$into/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
    -CAserial "$work/serial" -days "$days" -extfile "$work/$file.ext" -out "$into/$file.pem" 2>>"$work/said"
}

sign server "${1:-localhost}" serverAuth "$names"
sign client "${CLIENT:-imagegen-client}" clientAuth "DNS:${CLIENT:-imagegen-client}"
# Certificates are public; keys are their owner's.
chmod 644 "$into"/{ca,server,client}.pem
printf 'ca.pem, server.pem, server.key, client.pem and client.key are in %s, good for %s days.\n' "$into" "$days" >&2
