# Fetches Debian packages with what they need, and unpacks them into the layer; the arguments are
# packages as apt-get names them. Nothing of a package is run: it is files only.
set -u
mkdir -p "$TMPDIR/apt/archives/partial" "$LAYER/.system"
apt-get -q -y --no-install-recommends --download-only --allow-downgrades \
    -o Debug::NoLocking=1 -o Dir::Cache="$TMPDIR/apt" -o Dir::Log="$TMPDIR" \
    -o APT::Sandbox::User= install "$@" </dev/null || exit 1
for package in "$TMPDIR"/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$LAYER/.system" || exit 1
done
# Papers and messages take most of the space, and no function reads them.
rm -rf "$LAYER/.system/usr/share/doc" "$LAYER/.system/usr/share/man" "$LAYER/.system/usr/share/locale"
