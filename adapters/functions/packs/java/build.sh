#!/bin/sh
# Java's layers: the jars that a pom.xml depends on, resolved by Maven, which runs no plugin for it.
#
# Runs in the build sandbox, as packs/python3/build.py says; $1 is the java program.
set -u

give_up() {
    printf '%s' "$1" >"$REASON"
    exit 1
}

bin=${1%/*}
export JAVA_HOME="${bin%/*}"
export MAVEN_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
[ -n "${TOOL_MVN:-}" ] || give_up "mvn was not found on this node: apt-get install maven"
own=$TMPDIR/own
mkdir -p "$own/META-INF/plexus"
cp /dispatch/maven-layer.xml "$own/META-INF/plexus/components.xml"
libraries=${TOOL_MVN%/bin/mvn}/lib
"$bin/javac" -J-XX:TieredStopAtLevel=1 -proc:none -cp "$libraries/*" -d "$own" \
    /dispatch/Layer.java /dispatch/Pom.java || give_up "the builder does not fit this Maven:"

said=$("$bin/java" -XX:TieredStopAtLevel=1 -cp "$own" dispatch.build.Pom "$MANIFEST" "$TMPDIR/pom.xml")
case $? in
    0) ;;
    3) exit 0 ;;
    *) give_up "${said:-pom.xml: it cannot be read}" ;;
esac

settings=
[ -f "$HOME/.m2/settings.xml" ] && settings="-s $HOME/.m2/settings.xml"
# shellcheck disable=SC2086
"$TOOL_MVN" -B -q -N $settings -Dstyle.color=never -Dmaven.repo.local="$CACHE/m2" \
    -Dmaven.ext.class.path="$own" -f "$TMPDIR/pom.xml" validate </dev/null ||
    give_up "mvn exited with $?:"
