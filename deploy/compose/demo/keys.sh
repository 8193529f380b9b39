#!/bin/sh
# In the demo's container "keys": what deploy/demo/keys.sh makes, tokens and the configuration.
# Arguments: as for that. All of it may be there from the last time.
set -eu
umask 077
dir=$3
/src/deploy/demo/keys.sh "$@"
[ -d "$dir/rpc" ] || "$1/berth" rpc-keys "$dir/rpc"
for token in admin borrow; do
    [ -f "$dir/$token.token" ] || openssl rand -hex 32 >"$dir/$token.token"
done
cp /compose/config.yaml "$dir/config.yaml"
