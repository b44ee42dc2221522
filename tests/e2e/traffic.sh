#!/bin/sh
# Sends message after message, and writes for each: nanoseconds when sent and when answered, status, address.
# A client of two webapps: where one refuses the connection, it goes to the other with the same key.
N=0
while :; do
    N=$((N + 1))
    for PORT in 9090 9091; do
        FROM=$(date +%s%N)
        STATUS=$(curl -s -o /run/answer -w '%{http_code}' -m 30 -X POST "http://127.0.0.1:$PORT/v1/messages" \
            -H "authorization: Bearer $TOKEN" -H "idempotency-key: traffic-$N" -H 'content-type: application/json' \
            -d "{\"to\":\"49170000$((N % 1000))\",\"type\":\"text\",\"text\":{\"body\":\"hello $N\"}}")
        echo "$FROM $(date +%s%N) $STATUS $PORT"
        [ "$STATUS" != 000 ] && break
    done
    case $STATUS in 2*) ;; *) cat /run/answer >&2 ;; esac
done >>/run/traffic.log
