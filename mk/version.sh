#!/usr/bin/env bash
# Prints the version that a build gets. Tag v1.2.3: 1.2.3. A later commit: 1.2.3-4-gabc1234. No tag yet:
# 0.1.0-dev-gabc1234. "-dirty" follows where files differ from the commit. A tarball of `git archive` carries its
# description in the line below; a tree with neither gets the version to come.
set -euo pipefail
cd "$(dirname "$0")/.."
next=0.1.0-dev
archived='$Format:%(describe:tags,match=v*)$'

# Only this tree's own .git counts: a tarball may be unpacked inside another repository.
if [[ -e .git ]] && described=$(git describe --tags --match 'v*' --dirty 2>/dev/null); then
  echo "${described#v}"
elif [[ -e .git ]] && commit=$(git describe --always --exclude '*' --dirty 2>/dev/null); then
  echo "$next-g$commit"
elif [[ $archived == v* ]]; then
  echo "${archived#v}"
else
  echo "$next"
fi
