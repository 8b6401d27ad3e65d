#!/bin/bash
# Plan FILE (for CARD, where the file does not name one) and leave the answer as fitproof.md, the verdict as an output.
set -eu
file=$1 card=${2:-}
case $file in
  *.json) asked=(--request "$file") ;;
  *) asked=("$file" ${card:+"$card"}) ;;
esac
status=0
fitproof plan "${asked[@]}" --json > fitproof.json || status=$?
# 0 fits, 1 does not, 3 is tight; anything else is no answer, and its message has been printed.
case $status in 0 | 1 | 3) ;; *) exit "$status" ;; esac
{
  echo "### Fitproof: $file"
  echo '```text'
  fitproof plan "${asked[@]}" || true
  echo '```'
} > fitproof.md
verdict=$(python -c 'import json; print(json.load(open("fitproof.json"))["verdict"])')
echo "verdict=$verdict" >> "${GITHUB_OUTPUT:-/dev/null}"
