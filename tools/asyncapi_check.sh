#!/usr/bin/env bash
# Parses schemas/asyncapi.yaml with AsyncAPI's own parser; prints what it finds, fails on any error.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf '{"private": true, "type": "module"}\n' > package.json
npm install --silent --no-audit --no-fund @asyncapi/parser@^3
cat > check.mjs <<'JS'
import { readFileSync } from "node:fs";
import parserModule from "@asyncapi/parser";
const { Parser } = parserModule;
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const found of diagnostics) console.log(found.severity, found.path.join("."), found.message);
const errors = diagnostics.filter((found) => found.severity === 0);
if (!document || errors.length) process.exit(1);
console.log(`valid: ${document.version()}, ${document.operations().all().length} operations`);
JS
node check.mjs "$root/schemas/asyncapi.yaml"
