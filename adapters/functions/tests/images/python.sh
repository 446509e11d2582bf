#!/bin/sh
# Makes an OCI layout of an image with Debian's Python and pip: python.sh LAYOUT TAG
#
# The files are those of the packages installed here, as dpkg lists them, and umoci puts them
# together, so that nothing is fetched. A second layer hides a file and a folder of the first.
set -eu
layout=$1 tag=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Every installed package that one of these needs, but for what only configures others.
closure() {
    seen=' '
    set -- "$@"
    while [ $# -gt 0 ]; do
        package=${1%%:*}
        shift
        case "$seen" in *" $package "*) continue ;; esac
        case "$package" in debconf* | dpkg | perl* | install-info | media-types) continue ;; esac
        depends=$(dpkg-query -W -f '${Pre-Depends},${Depends},' "$package" 2>/dev/null) || continue
        seen="$seen$package "
        # The first of alternatives, without versions.
        set -- "$@" $(echo "$depends" | tr ',' '\n' | sed 's/|.*//; s/(.*//; s/:any//; s/ //g')
    done
    echo "$seen"
}

mkdir -p "$work/root/usr/bin" "$work/root/usr/lib" "$work/root/usr/lib64" "$work/root/usr/sbin" \
    "$work/root/tmp" "$work/root/secrets/below" "$work/root/etc"
for name in bin lib lib64 sbin; do
    ln -s "usr/$name" "$work/root/$name"
done
for package in $(closure python3-minimal libpython3-stdlib python3-pip libc-bin dash coreutils); do
    dpkg -L "$package"
done | sort -u | grep -v -E '^/(usr/share/(doc|man|locale|info)|\.$)' | while read -r path; do
    # What dpkg calls /lib/x lies in /usr/lib/x where the two are merged.
    real=$(realpath -s "$path")
    case "$real" in /bin/* | /lib/* | /lib64/* | /sbin/*) real=/usr$real ;; esac
    if [ -L "$real" ] || [ -f "$real" ]; then
        printf '%s\n' "$real"
    fi
done | sort -u | sed 's,^/,,' > "$work/files"
tar -C / -c --no-recursion -T "$work/files" | tar -C "$work/root" -x --no-same-owner
echo 'of the lower layer' > "$work/root/secrets/key"
echo 'of the lower layer' > "$work/root/secrets/below/key"
echo 'made by umoci' > "$work/root/etc/mark"

umoci init --layout "$layout"
umoci new --image "$layout:$tag"
umoci insert --rootless --image "$layout:$tag" "$work/root" /
umoci insert --rootless --image "$layout:$tag" --whiteout /secrets/key
mkdir "$work/new"
echo 'of the upper layer' > "$work/new/other"
umoci insert --rootless --image "$layout:$tag" --opaque "$work/new" /secrets/below
umoci config --image "$layout:$tag" --config.env PATH=/usr/bin:/bin --config.env "MADE_BY=$tag"
