# One order a line on descriptor 3, and one answer to each; what is printed is the run's log.
echo '{"ready":1,"version":"1"}' >&3
while read -r line <&3; do
    case $line in
        '{"init"'*)
            # The text of the source, as JSON has it.
            text=$(printf '%s' "$line" | sed -n 's/.*\["[^"]*\.greeting","\([^"]*\)".*/\1/p' | sed 's/\\n$//')
            echo '{"ready":1}' >&3
            ;;
        *)
            id=${line#*:} id=${id%%,*}
            name=$(printf '%s' "$line" | sed -n 's/.*"payload":{"name":"\([^"]*\)".*/\1/p')
            name=${name:-world}
            echo "greeting $name"
            printf '{"ok":%s,"payload":{"greeting":"%s"}}\n' \
                "$id" "${text%%NAME*}$name${text#*NAME}" >&3
            ;;
    esac
done
