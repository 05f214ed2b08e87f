#!/bin/sh
# A picture by rabbitmq-c's amqp-tools: amqp_tools.sh URL '{"prompt": "A lighthouse at dawn"}' FILE
#
# They know neither confirms nor correlation ids: the reply queue is of this request alone, and of a
# full queue they say nothing, so the answer is waited for no longer than PATIENCE_S.
set -eu
url=$1 request=$2 file=$3
queue="imagegen.client.shell-$(cat /proc/sys/kernel/random/uuid)"

amqp-declare-queue --url="$url" --queue="$queue" --durable > /dev/null
trap 'amqp-delete-queue --url="$url" --queue="$queue" > /dev/null' EXIT
trap 'exit 1' INT TERM # a shell that is killed by them does not come to EXIT
amqp-publish --url="$url" --exchange=imagegen --routing-key=imagegen.requests --persistent \
    --content-type=application/json --header="x-imagegen-accept: image/png" \
    --reply-to="$queue" --body="$request"
if ! timeout --foreground "${PATIENCE_S:-120}" amqp-consume --url="$url" --queue="$queue" --count=1 cat > "$file"; then
    echo "no answer: the queue is full, or nobody draws; try again later" >&2
    rm "$file"
    exit 1
fi
if [ "$(head -c 1 "$file")" = "{" ]; then # an error stays JSON
    cat "$file" >&2
    rm "$file"
    exit 1
fi
