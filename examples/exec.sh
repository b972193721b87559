#!/bin/bash
# A handler of kind "exec": one process a message, payload on stdin, the rest in LEASEHOLD_* variables. It keeps each
# message as a file under $OUT. The name is the message's place: a repeat, even a late one by a former owner of the
# partition, writes the same file once more.
out=${OUT:?names the directory to write to}
command -v jq >/dev/null || exit 69         # unavailable: the message is not to blame
name=$out/$LEASEHOLD_TOPIC.$LEASEHOLD_PARTITION.$LEASEHOLD_SEQ.json
new=$(mktemp "$out/.new.XXXXXX") || exit 69
trap 'rm -f "$new"' EXIT

cat >"$new" || exit 69
jq empty "$new" || exit 65                  # reject: this is no JSON and never will be
sync "$new" && mv "$new" "$name" || exit 69
echo "attempt $LEASEHOLD_ATTEMPT of $LEASEHOLD_ID, key $LEASEHOLD_KEY: kept" # goes to the log
