#!/usr/bin/env bash
# Holds the manifests of deploy/kubernetes against kubectl's own rendering and against schemas:
# Kubernetes' by kubernetes-validate (PyPI), KEDA's and the Prometheus operator's by npm packages.
# Nothing is sent to a cluster. Needs kubectl (without a cluster), Node and the two registries.
#   PYTHON                   the project's Python (.venv/bin/python)
#   KUBERNETES_CHECK_MAJOR   the oldest and the newest Kubernetes that are tried ("1.33 1.37")
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

python=$(realpath --no-symlinks -- "${PYTHON:-.venv/bin/python}")
read -r -a versions <<<"${KUBERNETES_CHECK_MAJOR:-1.33 1.37}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

say() { printf 'kubernetes-check: %s\n' "$*" >&2; }

# The reader of the tests renders what kubectl renders, so that what they hold, holds.
"$python" -m tools.kustomize
say "render: the reader of the tests and kubectl agree on every overlay"

for overlay in deploy/kubernetes/overlays/*/; do
  kubectl kustomize "$overlay" >"$folder/$(basename "$overlay").yaml"
done

"$python" -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
for version in "${versions[@]}"; do
  "$folder/python/bin/kubernetes-validate" --strict --quiet --no-warn \
    --kubernetes-version "$version" "$folder"/*.yaml
  say "schemas: Kubernetes $version has every field of every overlay"
done

cd "$folder"
printf '{"private": true, "type": "module"}\n' >package.json
npm install --silent --no-audit --no-fund \
  @kubernetes-models/keda@2.0.0 @kubernetes-models/prometheus-operator@6.0.0
cat >check.mjs <<'JS'
import { readFileSync } from "node:fs";
const KINDS = {
  "keda.sh/v1alpha1": "@kubernetes-models/keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1":
    "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};
const told = JSON.parse(readFileSync(0, "utf8")).filter((one) => one.apiVersion in KINDS);
if (told.length !== 3) throw new Error(`${told.length} documents instead of 3`);
for (const one of told) {
  const { [one.kind]: Model } = await import(KINDS[one.apiVersion]);
  new Model(one).validate();
  console.error(`kubernetes-check: schemas: ${one.kind} is as ${one.apiVersion} has it`);
}
JS
for fleet in *-fleet.yaml; do
  "$python" -c 'import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))' \
    <"$fleet" | node check.mjs
done
say "passed; nothing was run on a cluster"
