#!/usr/bin/env bash
# Proves the container files on a real Docker engine: all steps, or those named.
#
#   lint     the Dockerfile, by hadolint
#   config   every compose file, override and profile, by compose
#   build    the images `tools` and `cpu`
#   run      broker and service, a picture from outside, down and up on the same volumes
#   control  the words of control.sh on the same containers
#   cluster  three brokers, two services, a store: each broker is killed with requests in hand
#
# What is started is a project of its own with the built-in model, and is removed at the end.
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
project=(docker compose --project-name imagegen-check
  --file docker-compose.yml --file docker-compose.cpu.yml)

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
  local override profile
  for override in '' docker-compose.cuda.yml docker-compose.cpu.yml; do
    for profile in image-gen monitoring cluster '*'; do
      docker compose --file docker-compose.yml ${override:+--file "$override"} \
        --profile "$profile" config --quiet
    done
  done
  say "config: valid for rocm, cuda and cpu, with each profile and with all"
}

check_build() {
  local revision name
  revision=$(git rev-parse HEAD)
  build_options+=(--build-arg "REVISION=$revision")
  docker build "${build_options[@]}" --target tools --tag "imagegen:$version-tools" .
  docker build "${build_options[@]}" --target service --build-arg VARIANT=cpu \
    --tag "imagegen:$version-cpu" .
  docker image ls --filter "reference=imagegen:$version-*"
  for name in tools cpu; do
    expect "imagegen:$version-$name: user" "$(of_image "$name" '{{.Config.User}}')" 1000:1000
    expect "imagegen:$version-$name: revision" "$(of_image "$name" \
      '{{index .Config.Labels "org.opencontainers.image.revision"}}')" "$revision"
  done
  expect "imagegen:$version-cpu: stop signal" "$(of_image cpu '{{.Config.StopSignal}}')" SIGTERM
  expect "imagegen:$version-cpu: probe" "$(of_image cpu '{{json .Config.Healthcheck.Test}}')" \
    '["CMD","imagegen","healthcheck"]'
}

# Tells a fact of an image of ours by Go template: of_image TAG TEMPLATE
of_image() { docker image inspect --format "$2" "imagegen:$version-$1"; }

draw() {
  "${enter[@]}" "$client" generate "A sunset over mountains" --size 512x512 --seed 7 \
    --output "$1" --url "$(<.imagegen/secrets/chat_backend_url)"
  expect_png "$1"
}

expect_png() {
  [[ $(head -c 8 "$1" | od -An -tx1 | tr -d ' \n') == 89504e470d0a1a0a ]] || fail "$1 is no PNG"
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
  "${compose[@]}" up --detach --no-build --wait --wait-timeout 300 "$@"
  say "$*: healthy after $((SECONDS - began)) s"
}

# Tells which file the store is: made again, it would be another.
store() {
  "${compose[@]}" exec -T image-service stat -c %i /cache/imagegen/jobs.sqlite
}

# What each container of the profile may: check_guards SERVICE=USER...
check_guards() {
  local each service
  for each in "$@"; do
    service=${each%=*}
    expect "$service: user" "$("${compose[@]}" exec -T "$service" id -u)" "${each#*=}"
    expect "$service: read-only" "$(fact "$service" '{{.HostConfig.ReadonlyRootfs}}')" true
    expect "$service: capabilities" "$(
      "${compose[@]}" exec -T "$service" grep CapBnd /proc/1/status | cut -f2
    )" 0000000000000000
    expect "$service: no new privileges" "$(
      "${compose[@]}" exec -T "$service" grep NoNewPrivs /proc/1/status | cut -f2
    )" 1
    expect "$service: addresses" "$(fact "$service" \
      '{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}' |
      tr ' ' '\n' | sort -u | tr -d '\n')" "$([[ $service == postgres ]] || echo 127.0.0.1)"
  done
}

# Ends what a step started, whatever became of it, and shows what a failed one said.
clean_up_at_exit() {
  pictures=$(mktemp -d)
  trap 'code=$?; ((code == 0)) || "${compose[@]}" logs --tail 40 >&2; clean_up' EXIT
}

clean_up() {
  trap - EXIT
  "${compose[@]}" down --volumes >/dev/null 2>&1 || true
  rm -rf "$pictures"
}

check_run() {
  compose=("${project[@]}" --profile image-gen)
  clean_up_at_exit
  docker run --rm "imagegen:$version-tools" --help >/dev/null
  python3 -m control.compose_files
  bring_up image-service
  check_guards image-service=1000 rabbitmq=999
  draw "$pictures/first.png"
  draw_by_http "$pictures/http.png"
  cmp "$pictures/first.png" "$pictures/http.png" || fail "HTTP gives another picture"
  local began=$SECONDS made
  made=$(store)
  "${compose[@]}" stop image-service
  expect "exit code after a stop" "$(fact image-service '{{.State.ExitCode}}')" 0
  say "run: stopped in $((SECONDS - began)) s"
  "${compose[@]}" down
  bring_up image-service
  expect "the store on the volume" "$(store)" "$made"
  draw "$pictures/second.png"
  cmp "$pictures/first.png" "$pictures/second.png" || fail "the same seed gave another picture"
  [[ -z ${IMAGE_CHECK_PICTURE:-} ]] || cp "$pictures/first.png" "$IMAGE_CHECK_PICTURE"
  clean_up
  say "run: drawn from outside, twice the same, the cache kept"
}

# One word of control.sh on the containers of this check, by the code it has to end with.
word() {
  local code=0
  "${enter[@]}" env IMAGE_GEN_RUN=compose IMAGE_GEN_VARIANT=cpu \
    COMPOSE_PROJECT_NAME=imagegen-check ./control.sh image "${@:2}" || code=$?
  expect "the exit code of control.sh image $2" "$code" "$1"
}

check_control() {
  compose=("${project[@]}" --profile image-gen)
  clean_up_at_exit
  word 3 status
  word 0 start
  word 0 status
  word 0 generate "A sunset over mountains" --size 512x512 --seed 7 -o "$pictures/control.png"
  expect_png "$pictures/control.png"
  word 0 doctor
  [[ $(word 0 logs) == *settled* ]] || fail "the log does not tell of the picture"
  expect "amqp-url" "$(word 0 amqp-url)" "$(<.imagegen/secrets/chat_backend_url)"
  word 0 restart
  word 0 stop
  word 3 status
  expect "what runs after a stop" "$("${compose[@]}" ps --quiet)" ""
  clean_up
  say "control: start, status, generate, doctor, logs, amqp-url, restart and stop do as natively"
}

# The port by which the broker of a number is reached from outside.
amqp_port() { echo $((5671 + $1)); }

# Draws in the background through the broker of a number: order NUMBER SEED
order() {
  local url
  url=$(sed "s/:5672/:$(amqp_port "$1")/" .imagegen/secrets/chat_backend_url)
  "${enter[@]}" "$client" generate "A sunset over mountains" --size 1024x1024 --steps 20 \
    --seed "$2" --output "$pictures/$2.png" --url "$url" >"$pictures/$2.log" 2>&1 &
  orders[$2]=$!
}

# Asks the job API of the service of a number: ask NUMBER PATH
ask() {
  "${enter[@]}" curl -sSf -H "Authorization: Bearer $(<.imagegen/secrets/image_gen_api_token)" \
    "http://127.0.0.1:$((8033 + $1))$2"
}

# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
  local until=$((SECONDS + $1))
  until "${@:3}" >/dev/null 2>&1; do
    ((SECONDS < until)) || fail "$2 after $1 s"
    sleep 0.5
  done
}

running() { (($(ask 1 /jobs | grep -o '"status":"running"' | wc -l) == $1)); }

whole() {
  local members
  members=$("${compose[@]}" exec -T rabbitmq-1 rabbitmqctl --quiet --no-table-headers \
    list_queues --vhost imagegen online | grep -c 'rabbitmq-.*rabbitmq-.*rabbitmq-')
  ((members == 3))
}

# Kills the broker of a number with two requests in hand and two waiting, all sent through the next
# one; every one of them has to be answered.
kill_one() {
  local victim=$1 other=$(($1 % 3 + 1)) seed lost=0
  declare -A orders
  wait_for 120 "the queues do not have three members" whole
  for seed in 1 2 3 4; do order "$other" "$victim$seed"; done
  wait_for 60 "no two requests are in hand" running 2
  local began=$SECONDS
  docker kill "$("${compose[@]}" ps --quiet "rabbitmq-$victim")" >/dev/null
  for seed in "${!orders[@]}"; do
    wait "${orders[$seed]}" || {
      cat "$pictures/$seed.log" >&2
      lost=$((lost + 1))
    }
  done
  expect "requests lost by killing rabbitmq-$victim" "$lost" 0
  for seed in "${!orders[@]}"; do expect_png "$pictures/$seed.png"; done
  say "cluster: rabbitmq-$victim killed, 4 of 4 pictures within $((SECONDS - began)) s"
  bring_up "rabbitmq-$victim"
}

check_cluster() {
  compose=("${project[@]}" --profile cluster)
  clean_up_at_exit
  python3 -m control.compose_files
  bring_up image-service-1 image-service-2
  check_guards rabbitmq-{1,2,3}=999 postgres=999 image-service-{1,2}=1000
  local victim service id
  for victim in 1 2 3; do kill_one "$victim"; done
  for service in image-service-{1,2}; do
    # Each was on one of them.
    [[ $("${compose[@]}" logs "$service") == *broker_lost* ]] || fail "$service lost no broker"
  done
  id=$(ask 1 /jobs | grep -o '"job_id":"[^"]*"' | head -1 | cut -d '"' -f 4)
  ask 1 "/job/$id/image" >"$pictures/by-1.png"
  ask 2 "/job/$id/image" >"$pictures/by-2.png"
  "${compose[@]}" down
  bring_up image-service-1 image-service-2
  wait_for 120 "the queues do not have three members" whole
  ask 2 "/job/$id/image" >"$pictures/after.png"
  expect_png "$pictures/by-1.png"
  cmp "$pictures/by-1.png" "$pictures/by-2.png" || fail "the services answer differently"
  cmp "$pictures/by-1.png" "$pictures/after.png" || fail "the store did not keep the picture"
  clean_up
  say "cluster: every broker killed once, nothing lost; both services know every job, kept by down"
}

steps=("$@")
((${#steps[@]})) || steps=(lint config build run control cluster)
for step in "${steps[@]}"; do
  case $step in
    lint | config | build | run | control | cluster) "check_$step" ;;
    *) fail "no step is called $step; give lint, config, build, run, control or cluster" ;;
  esac
done
say "passed: ${steps[*]}"
