#!/bin/sh
# Says hello. It is started once for each run: the request is a line on descriptor 3, and so is
# the reply; what is printed is the run's log. Any executable can do the same.
read -r request <&3
name=$(printf '%s' "$request" | sed -n 's/.*"payload":{[^}]*"name": *"\([^"]*\)".*/\1/p')
echo "greeting ${name:-world}"
printf '{"payload":{"greeting":"Hello, %s!"}}\n' "${name:-world}" >&3
