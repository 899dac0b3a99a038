"""Lists what coreloss is built of with its licence, and fails where deny.toml allows none of them.

    scripts/licences.py        needs cargo and Python 3.11, no network where the crates are there
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def allowed_by(expression, allow):
    """Whether the licence `expression` (SPDX) can be met with licences of `allow`."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    terms = {"OR": "or", "/": "or", "AND": "and", "(": "(", ")": ")"}
    python = []
    for token in tokens:
        if python and python[-1] == "WITH":
            # An exception only adds permissions.
            python.pop()
        elif token == "WITH":
            python.append(token)
        else:
            python.append(terms.get(token, str(token in allow)))
    return eval(" ".join(python))


def main():
    allow = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    built = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in built]
    refused = []
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        licence = package["license"] or "none told"
        print(f"{package['name']:<32}{package['version']:<24}{licence}")
        if not (package["license"] and allowed_by(licence, allow)):
            refused.append(f"{package['name']} {package['version']}: {licence}")
    if refused:
        sys.exit("licences: deny.toml allows none of\n  " + "\n  ".join(refused))


if __name__ == "__main__":
    main()
