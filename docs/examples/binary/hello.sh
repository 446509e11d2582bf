#!/bin/sh
# The request is a line on descriptor 3, and so is the reply; what is printed is the log.
read -r request <&3
name=$(printf '%s' "$request" | sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
place=$(printf '%s' "$request" | sed -n 's/.*"place":"\([^"]*\)".*/\1/p')
echo "greeting ${name:-Noone}"
printf '{"payload":{"myField":"Hello, %s from %s"}}\n' "${name:-Noone}" "${place:-Nowhere}" >&3
