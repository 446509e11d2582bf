"""Python's layers: requirements.txt by uv or pip, wheels only, compiled ahead.

Runs in the build sandbox. $MANIFEST is the person's file, $LAYER the empty folder that becomes the
layer, $CACHE is kept between builds, $TOOL_UV and the like are what this node has. A reason
written to $REASON is what the image's reason says; one that ends in a colon is followed by the
last lines of what was printed.
"""

import importlib.util
import os
import re
import subprocess
import sys

LAYER = os.environ["LAYER"]
CACHE = os.environ["CACHE"]
# Options that say where packages come from, by whether they take a value; every other option could
# run a package's own code at build time, or read files of the host.
OPTIONS = {
    "--index-url": True, "-i": True, "--extra-index-url": True, "--find-links": True, "-f": True,
    "--trusted-host": True, "--prefer-binary": False, "--pre": False, "--no-index": False,
}
PIP = [
    "install", "--target", LAYER, "--only-binary=:all:", "--no-compile", "--no-input",
    "--disable-pip-version-check", "--progress-bar=off", "--no-warn-script-location",
    "--root-user-action=ignore", "--no-warn-conflicts", "--cache-dir", CACHE + "/pip", "-r",
]


def give_up(reason):
    with open(os.environ["REASON"], "w") as file:
        file.write(reason)
    sys.exit(1)


def is_known_option(words):
    """Whether that is one option of those above, and nothing else."""
    name, joined, value = words[0].partition("=")
    if name not in OPTIONS:
        return False
    values = ([value] if joined else []) + words[1:]
    if not OPTIONS[name]:
        return not values
    return len(values) == 1 and values[0][:1] not in ("", "-") and "file:" not in values[0].lower()


def is_allowed(line):
    # A continuation could make the installer see other words than are seen here, and a variable would
    # send a setting of the node's owner to wherever the line says.
    if "\\" in line or "${" in line:
        return False
    words = line.split()
    if line.startswith("-"):
        return is_known_option(words)
    # Options of one requirement: some make the installer build it from source.
    while len(words) > 1 and re.fullmatch("--hash=[a-z0-9]+:[0-9a-f]+", words[-1]):
        words.pop()
    if any(word.startswith("-") for word in words):
        return False
    # Direct references, version control and paths may be sources, which are built by their own code.
    wanted = line.split(";")[0]
    return line[0].isalnum() and "://" not in line and "@" not in wanted and "/" not in wanted


def requirements(text):
    kept = []
    text = re.sub(r"(?m)(^|\s)#.*$", r"\1", text)
    for line in re.sub(r"\\[ \t\r]*\n", " ", text).splitlines():
        line = " ".join(line.split())
        if not line:
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
