#!/bin/bash
# The smallest handler in shell: appends each line that it gets to a file. "type" and "id" come first in every line, then
# in init the token that makes a line an answer.
set -eu
out=${OUT:-/dev/stderr} token=
while IFS= read -r line; do
  [[ $line =~ \"type\":\"([a-z]+)\",\"id\":\"([^\"]*)\" ]] || continue
  type=${BASH_REMATCH[1]} id=${BASH_REMATCH[2]}
  case $type in
    message) printf '%s\n' "$line" >>"$out"
             printf '{"type":"result","id":"%s","token":"%s","status":"ok"}\n' "$id" "$token" ;;
    init | assign | revoke | stop)
             [[ $type == init && $line =~ \"token\":\"([A-Z0-9]+)\" ]] && token=${BASH_REMATCH[1]}
             printf '{"type":"ack","id":"%s","token":"%s"}\n' "$id" "$token" ;;
  esac
done
