#!/usr/bin/env bash
# Proves the container files on a real Docker engine: lint, config, build, run; all, or those named.
#
# It builds the images `tools` and `cpu`, brings the service up as a project of its own with the
# built-in model, draws from outside, takes it down and up again, and removes what it started.
#   IMAGE_CHECK_BUILD    more arguments of `docker build`: a mirror, wheels of one's own
#   IMAGE_CHECK_ENTER    what goes before a command that uses the published ports, if the engine's
#                        network is not ours: "nsenter --net=/run/netns/NAME"
#   IMAGE_CHECK_CLIENT   the client outside (.venv/bin/imagegen)
#   IMAGE_CHECK_PICTURE  where the picture is left (nowhere)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

read -r -a build_options <<<"${IMAGE_CHECK_BUILD:-}"
read -r -a enter <<<"${IMAGE_CHECK_ENTER:-}"
client=${IMAGE_CHECK_CLIENT:-.venv/bin/imagegen}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Given by name, so that a COMPOSE_FILE in .env is not asked.
compose=(docker compose --project-name imagegen-check
  --file docker-compose.yml --file docker-compose.cpu.yml --profile image-gen)

say() { printf 'image-check: %s\n' "$*" >&2; }
fail() {
  say "FAILED: $*"
  exit 1
}

check_lint() {
  if ! command -v hadolint >/dev/null; then
    say "NOT RUN: lint (hadolint is not installed)"
    return
  fi
  hadolint Dockerfile
  say "lint: Dockerfile is clean"
}

check_config() {
  local override
  docker compose --file docker-compose.yml --profile image-gen config --quiet
  for override in cuda cpu; do
    docker compose --file docker-compose.yml --file "docker-compose.$override.yml" \
      --profile image-gen config --quiet
  done
  say "config: valid for rocm, cuda and cpu"
}

check_build() {
  docker build "${build_options[@]}" --target tools --tag "imagegen:$version-tools" .
  docker build "${build_options[@]}" --target service --build-arg VARIANT=cpu \
    --tag "imagegen:$version-cpu" .
  docker image ls --filter "reference=imagegen:$version-*"
}

draw() {
  "${enter[@]}" "$client" generate "A sunset over mountains" --size 512x512 --seed 7 \
    --output "$1" --url "$(<.imagegen/secrets/chat_backend_url)"
  [[ $(head -c 8 "$1" | od -An -tx1 | tr -d ' \n') == 89504e470d0a1a0a ]] ||
    fail "the answer is no PNG"
}

# The same picture over HTTP, for who shows the token that compose_files made.
draw_by_http() {
  local url=http://127.0.0.1:8034 token
  token=$(<.imagegen/secrets/image_gen_api_token)
  expect "the job API without a token" \
    "$("${enter[@]}" curl -s -o /dev/null -w '%{http_code}' "$url/jobs")" 401
  "${enter[@]}" curl -sSf "$url/generate" -H "Authorization: Bearer $token" \
    -H 'Content-Type: application/json' -H 'Accept: image/png' -o "$1" \
    -d '{"prompt": "A sunset over mountains", "width": 512, "height": 512, "seed": 7}'
}

# Tells a fact of a container by Go template: fact SERVICE TEMPLATE
fact() { docker inspect --format "$2" "$("${compose[@]}" ps --all --quiet "$1")"; }

expect() { [[ $2 == "$3" ]] || fail "$1 is '$2', not '$3'"; }

bring_up() {
  local began=$SECONDS
  "${compose[@]}" up --detach --no-build --wait --wait-timeout 300 image-service
  say "run: healthy after $((SECONDS - began)) s"
}

# Tells which files the built-in model is: made again, they would be others.
model() {
  "${compose[@]}" exec -T image-service sh -c 'stat -c "%i %Y" /cache/imagegen/models/*/*.json'
}

check_guards() {
  local service
  for service in rabbitmq image-service; do
    expect "$service: read-only" "$(fact "$service" '{{.HostConfig.ReadonlyRootfs}}')" true
    expect "$service: capabilities" "$(
      "${compose[@]}" exec -T "$service" grep CapBnd /proc/1/status | cut -f2
    )" 0000000000000000
    expect "$service: addresses" "$(fact "$service" \
      '{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}' |
      tr ' ' '\n' | sort -u | tr -d '\n')" 127.0.0.1
  done
  expect "image-service: user" "$("${compose[@]}" exec -T image-service id -u)" 1000
  expect "rabbitmq: user" "$("${compose[@]}" exec -T rabbitmq id -u)" 999
}

check_run() {
  pictures=$(mktemp -d)
  trap 'code=$?; ((code == 0)) || "${compose[@]}" logs --tail 40 >&2
    "${compose[@]}" down --volumes >/dev/null 2>&1 || true; rm -rf "$pictures"' EXIT
  docker run --rm "imagegen:$version-tools" --help >/dev/null
  python3 -m control.compose_files
  bring_up
  check_guards
  draw "$pictures/first.png"
  draw_by_http "$pictures/http.png"
  cmp "$pictures/first.png" "$pictures/http.png" || fail "HTTP gives another picture"
  local began=$SECONDS made
  made=$(model)
  "${compose[@]}" stop image-service
  expect "exit code after a stop" "$(fact image-service '{{.State.ExitCode}}')" 0
  say "run: stopped in $((SECONDS - began)) s"
  "${compose[@]}" down
  bring_up
  expect "the model on the volume" "$(model)" "$made"
  draw "$pictures/second.png"
  cmp "$pictures/first.png" "$pictures/second.png" || fail "the same seed gave another picture"
  [[ -z ${IMAGE_CHECK_PICTURE:-} ]] || cp "$pictures/first.png" "$IMAGE_CHECK_PICTURE"
  say "run: drawn from outside, twice the same, the cache kept"
}

steps=("$@")
((${#steps[@]})) || steps=(lint config build run)
for step in "${steps[@]}"; do
  case $step in
    lint | config | build | run) "check_$step" ;;
    *) fail "no step is called $step; give lint, config, build or run" ;;
  esac
done
say "passed: ${steps[*]}"
