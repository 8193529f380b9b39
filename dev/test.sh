#!/bin/sh
# All tests, from nothing: installs what is missing, builds (normal and with sanitizers), runs unit
# tests, component tests, fuzzer corpora, checks of the source, and the end-to-end tests. Ends with
# the line "N passed, N failed[, N skipped]".
#
#   dev/test.sh                            everything
#   dev/test.sh unit|lint|e2e|containers|package   a part
set -u
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/dev/lib.sh"
# shellcheck disable=SC2086
install_packages $BUILD_PACKAGES $DEMO_PACKAGES $TEST_PACKAGES
exec /usr/bin/python3 "$ROOT/dev/run_tests.py" "$@"
