#!/bin/sh
# Makes an OCI layout of an image with packages of Debian: image.sh LAYOUT TAG PROGRAM PACKAGE…
#
# The files are those of the packages installed here, as dpkg lists them, and umoci puts them
# together, so that nothing is fetched. What the packages need comes with them, but for =PACKAGE,
# which is taken alone. A second layer hides a file and a folder of the first.
set -eu
layout=$1 tag=$2 program=$3
shift 3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree

# Every installed package that one of these needs, but for what only configures others.
closure() {
    seen=' '
    set -- "$@"
    while [ $# -gt 0 ]; do
        package=${1%%:*}
        shift
        case "$package" in =*) seen="$seen${package#=} " ; continue ;; esac
        case "$seen" in *" $package "*) continue ;; esac
        case "$package" in
        debconf* | dpkg | perl* | install-info | media-types | ca-certificates* | java-common) continue ;;
        esac
        depends=$(dpkg-query -W -f '${Pre-Depends},${Depends},' "$package" 2>/dev/null) || continue
        seen="$seen$package "
        # The first of alternatives, without versions.
        set -- "$@" $(echo "$depends" | tr ',' '\n' | sed 's/|.*//; s/(.*//; s/:any//; s/ //g')
    done
    echo "$seen"
}

mkdir -p "$tree/usr/bin" "$tree/usr/lib" "$tree/usr/lib64" "$tree/usr/sbin" \
    "$tree/tmp" "$tree/secrets/below" "$tree/etc"
for name in bin lib lib64 sbin; do
    ln -s "usr/$name" "$tree/$name"
done
for package in $(closure "$@" libc-bin dash coreutils sed); do
    dpkg -L "$package"
done | sort -u | grep -v -E '^/(usr/share/(doc|man|locale|info)|\.$)|/jmods/|/src\.zip$' | while read -r path; do
    # What dpkg calls /lib/x lies in /usr/lib/x where the two are merged.
    real=$(realpath -s "$path")
    case "$real" in /bin/* | /lib/* | /lib64/* | /sbin/*) real=/usr$real ;; esac
    if [ -L "$real" ] || [ -f "$real" ]; then
        printf '%s\n' "$real"
    fi
done | sort -u | sed 's,^/,,' > "$scratch/files"
tar -C / -c --no-recursion -T "$scratch/files" | tar -C "$tree" -x --no-same-owner
echo 'of the lower layer' > "$tree/secrets/key"
echo 'of the lower layer' > "$tree/secrets/below/key"
echo 'made by umoci' > "$tree/etc/mark"

umoci init --layout "$layout"
umoci new --image "$layout:$tag"
umoci insert --rootless --image "$layout:$tag" "$tree" /
umoci insert --rootless --image "$layout:$tag" --whiteout /secrets/key
mkdir "$scratch/new"
echo 'of the upper layer' > "$scratch/new/other"
umoci insert --rootless --image "$layout:$tag" --opaque "$scratch/new" /secrets/below
# Where the program really is: Debian's alternatives are no package's.
folder=$(dirname "$(realpath "$(command -v "$program")")")
umoci config --image "$layout:$tag" --config.env "PATH=$folder:/usr/bin:/bin" \
    --config.env "MADE_BY=$tag"
