#!/bin/bash
# The end-to-end run: a real control plane and node, the chart, the quickstart, traffic. See docs/e2e.md.
set -eu
cd "$(dirname "$0")/../.."
PYTHONPATH=e2e exec "${PYTHON:-.venv/bin/python}" -m tandem_e2e "$@"
