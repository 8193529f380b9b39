#!/bin/sh
# A client by plain curl: takes a session, revalidates it and returns it.
#
#   deploy/demo/client.sh URL CA       e.g. https://localhost:22022 demo/tls.pem
set -eu
url=$1
ca=$2

call() {
    printf "\$ curl --cacert %s %s/licenses --json '%s'\n" "$ca" "$url" "$1"
    answer=$(curl -sS --cacert "$ca" -H 'Content-Type: application/json' --data "$1" "$url/licenses")
    printf '%s\n\n' "$answer"
    case $answer in *'"result"'*) ;; *) echo "error: the server refused" >&2; exit 1 ;; esac
}

printf '\nThe license server is ready. A client takes a session:\n\n'
call '{"jsonrpc":"2.0","id":1,"method":"RequestSessionV1","params":{"feature":"MVTec_HALCON","version":"24.11","edition":"Steady","modules":"fc"}}'
session=$(printf '%s' "$answer" | sed -n 's/.*"sessionId": *"\([^"]*\)".*/\1/p')
[ -n "$session" ] || { echo "error: no session in the answer" >&2; exit 1; }
echo "… keeps it alive:"
call "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"RevalidateSessionV1\",\"params\":{\"sessionId\":\"$session\"}}"
echo "… and gives it back:"
call "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ReturnSessionV1\",\"params\":{\"sessionId\":\"$session\"}}"
