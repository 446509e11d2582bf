// Node's layers: the dependencies of a package.json, by npm, without any package's scripts.
//
// Runs in the build sandbox, as packs/python3/build.py says.
'use strict';

const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');

const { MANIFEST, LAYER, CACHE, REASON, TOOL_NPM } = process.env;

function giveUp(reason) {
    fs.writeFileSync(REASON, reason);
    process.exit(1);
}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

// Refuses what is not a version, a range or a tag of a package in a registry.
function check(name, range) {
    const named =
        typeof range === 'string' && (range.startsWith('npm:') || !/[:/]|^\.|\.(tgz|tar|tar\.gz)$/i.test(range));
    if (!named) giveUp(`package.json: ${name}: only packages from a registry can be installed`);
}

// The same for overrides, which may stand below each other; "$name" means the dependency of that name.
function checkOverrides(overrides) {
    for (const [name, range] of Object.entries(overrides)) {
        if (isObject(range)) checkOverrides(range);
        else if (typeof range !== 'string' || !/^\$[^:/]*$|^\$@[^:/]+\/[^:/]+$/.test(range)) check(name, range);
    }
}

// The dependencies of a manifest, and nothing else of it; null when there are none.
function dependencies(text) {
    let whole;
    try {
        whole = JSON.parse(text);
    } catch (error) {
        giveUp(`package.json: ${error.message}`);
    }
    if (!isObject(whole)) giveUp('package.json: not an object');
    const wanted = whole.dependencies ?? {};
    if (!isObject(wanted)) giveUp('package.json: dependencies is not an object');
    for (const [name, range] of Object.entries(wanted)) check(name, range);
    if (Object.keys(wanted).length === 0) return null;
    const kept = { name: 'function', version: '0.0.0', private: true, dependencies: wanted };
    if (whole.overrides !== undefined) {
        if (!isObject(whole.overrides)) giveUp('package.json: overrides is not an object');
        checkOverrides(whole.overrides);
        kept.overrides = whole.overrides;
    }
    return kept;
}

const kept = dependencies(fs.readFileSync(MANIFEST, 'utf8'));
if (kept) {
    if (!TOOL_NPM) giveUp('npm was not found on this node: apt-get install npm');
    const file = path.join(LAYER, 'package.json');
    fs.writeFileSync(file, JSON.stringify(kept));
    const { status, signal } = spawnSync(
        process.execPath,
        [
            TOOL_NPM, 'install', '--ignore-scripts', '--omit=dev', '--no-audit', '--no-fund',
            '--no-package-lock', '--no-update-notifier', '--loglevel=error', `--cache=${CACHE}/npm`,
        ],
        { cwd: LAYER, stdio: 'inherit' },
    );
    if (status !== 0) giveUp(`npm exited with ${status ?? signal}:`);
    // Only node_modules stays, without npm's own notes, which say where things came from.
    fs.mkdirSync(path.join(LAYER, 'node_modules'), { recursive: true });
    fs.rmSync(file);
    fs.rmSync(path.join(LAYER, 'node_modules/.package-lock.json'), { force: true });
}
