#!/bin/bash
# The smallest handler in shell: appends each line that it gets to a file. "type" and "id" come first in every line.
set -eu
out=${OUT:-/dev/stderr}
while IFS= read -r line; do
  [[ $line =~ \"type\":\"([a-z]+)\",\"id\":\"([^\"]*)\" ]] || continue
  case ${BASH_REMATCH[1]} in
    message) printf '%s\n' "$line" >>"$out"
             printf '{"type":"result","id":"%s","status":"ok"}\n' "${BASH_REMATCH[2]}" ;;
    init | assign | revoke | stop) printf '{"type":"ack","id":"%s"}\n' "${BASH_REMATCH[2]}" ;;
  esac
done
