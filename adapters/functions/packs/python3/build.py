"""Python's layers: requirements.txt by uv or pip, wheels only, compiled ahead.

Runs in the build sandbox. $MANIFEST is the person's file, $LAYER the empty folder that becomes the
layer, $CACHE is kept between builds, $TOOL_UV and the like are what this node has. A reason
written to $REASON is what the image's reason says; one that ends in a colon is followed by the
last lines of what was printed.
"""

import importlib.util
import os
import subprocess
import sys

LAYER = os.environ["LAYER"]
CACHE = os.environ["CACHE"]
# Options that say where packages come from; every other option could run a package's own code at
# build time, or read files of the host.
OPTIONS = (
    "--index-url", "-i ", "--extra-index-url", "--find-links", "-f ", "--trusted-host",
    "--prefer-binary", "--pre", "--no-index",
)
PIP = [
    "install", "--target", LAYER, "--only-binary=:all:", "--no-compile", "--no-input",
    "--disable-pip-version-check", "--progress-bar=off", "--no-warn-script-location",
    "--root-user-action=ignore", "--no-warn-conflicts", "--cache-dir", CACHE + "/pip", "-r",
]


def give_up(reason):
    with open(os.environ["REASON"], "w") as file:
        file.write(reason)
    sys.exit(1)


def is_allowed(line):
    if line.startswith("-"):
        return line.startswith(OPTIONS) and "file:" not in line
    # Direct references, version control and paths may be sources, which are built by their own code.
    wanted = line.split(";")[0]
    return line[0].isalnum() and "://" not in line and "@" not in wanted and "/" not in wanted


def requirements(text):
    kept = []
    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        if not is_allowed(line):
            give_up(
                'requirements.txt: "%s": only packages from an index can be installed, as wheels' % line
            )
        kept.append(line + "\n")
    return "".join(kept)


def command(path):
    uv, pip = (os.environ.get("TOOL_" + name) for name in ("UV", "PIP3"))
    pip = pip or os.environ.get("TOOL_PIP")
    if uv:
        return "uv", [
            uv, "pip", "install", "--python", sys.executable, "--target", LAYER, "--only-binary",
            ":all:", "--link-mode", "copy", "--no-progress", "--cache-dir", CACHE + "/uv", "-r", path,
        ]
    if importlib.util.find_spec("pip"):
        return "pip", [sys.executable, "-m", "pip"] + PIP + [path]
    if pip:
        return "pip", [pip, "--python", sys.executable] + PIP + [path]
    give_up("neither uv nor pip was found on this node: apt-get install python3-pip, or install uv")


def main():
    with open(os.environ["MANIFEST"], encoding="utf-8") as file:
        kept = requirements(file.read())
    if not kept:
        return
    path = os.environ["TMPDIR"] + "/requirements.txt"
    with open(path, "w", encoding="utf-8") as file:
        file.write(kept)
    tool, arguments = command(path)
    status = subprocess.run(arguments, cwd=LAYER).returncode
    if status:
        give_up("%s exited with %d:" % (tool, status))
    # So that a cold start reads and does not compile; a source's time stamp does not matter,
    # because the layer never changes.
    import compileall
    from py_compile import PycInvalidationMode

    compileall.compile_dir(
        LAYER, ddir="/layer", quiet=2, workers=1,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


main()
