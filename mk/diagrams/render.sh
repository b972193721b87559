#!/usr/bin/env bash
# Renders docs/diagrams/NAME.mmd to docs/img/NAME.svg with the mermaid-cli that package-lock.json pins and the system's
# Chromium. Each picture carries the SHA-256 of its source; without --all only those are rendered whose source has
# changed. PNG=DIR also writes PNGs, to look at. Letters are measured with Liberation Sans, which is as wide as Arial.
set -euo pipefail
cd "$(dirname "$0")/../.."
config=mk/diagrams
tools=bin/diagrams
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
  { echo "make diagrams: chromium is needed (Debian: apt-get install chromium fonts-liberation)" >&2; exit 1; }
command -v npm >/dev/null || { echo "make diagrams: node and npm are needed" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Chromium has no sandbox for root and in most containers. It opens nothing but the diagrams of this tree.
printf '{ "executablePath": "%s", "args": ["--no-sandbox"] }\n' "$browser" >"$work/browser.json"

install_tools() {
  cmp -s "$config/package-lock.json" "$tools/package-lock.json" && [[ -x $tools/node_modules/.bin/mmdc ]] && return
  mkdir -p "$tools" && cp "$config"/package*.json "$tools"
  PUPPETEER_SKIP_DOWNLOAD=1 npm ci --prefix "$tools" --no-audit --no-fund --silent
}

draw() { # source picture
  "$tools/node_modules/.bin/mmdc" --quiet --puppeteerConfigFile "$work/browser.json" \
    --configFile "$config/mermaid.json" --backgroundColor white --scale 2 \
    --svgId "$(basename "$1" .mmd)" --input "$1" --output "$2"
}

for source in docs/diagrams/*.mmd; do
  name=$(basename "$source" .mmd) picture=docs/img/$(basename "$source" .mmd).svg
  sum=$(sha256sum <"$source" | cut -d' ' -f1)
  if [[ ${1:-} != --all ]] && grep -qs "sha256 $sum" "$picture"; then
    continue
  fi
  install_tools
  echo "$picture"
  draw "$source" "$work/$name.svg"
  { echo "<!-- rendered by make diagrams from $source, sha256 $sum -->"; cat "$work/$name.svg"; echo; } >"$work/marked"
  mv "$work/marked" "$picture"
  [[ -z ${PNG:-} ]] || draw "$source" "$PNG/$name.png"
done

# Pages show each source beside its picture: the block after <!-- diagram: NAME --> gets the text of
# docs/diagrams/NAME.mmd.
for page in $(grep -l '^<!-- diagram: ' docs/*.md README.md); do
  awk '
    /^<!-- diagram: / { print; source = "docs/diagrams/" $3 ".mmd"; next }
    source != "" && /^```mermaid/ { print; while ((getline line < source) > 0) print line; skipping = 1; next }
    skipping && /^```/ { skipping = 0; source = "" }
    !skipping { print }
  ' "$page" >"$work/page"
  cmp -s "$work/page" "$page" || cp "$work/page" "$page"
done
