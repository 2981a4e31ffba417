#!/bin/sh
# Makes the queue keygen and puts 100 items into it: load-queue.sh [URL]
set -e
url=${1:-http://localhost:8080}
curl -fsS -X PUT "$url/memq/server/queues/keygen"
i=0
while [ $i -lt 100 ]; do
  curl -fsS -X POST "$url/memq/server/queues/keygen/enqueue" -d "work-item-$i"
  i=$((i + 1))
done
