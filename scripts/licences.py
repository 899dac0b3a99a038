"""Lists the crates that coreloss is built from with their licences, and fails if deny.toml allows none of a crate's.

    scripts/licences.py        needs cargo and Python 3.11, and no network if the crates are downloaded
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def allowed_by(expression, allow):
    """Whether the licence `expression` (SPDX) can be satisfied by licences in `allow`."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    terms = {"OR": "or", "/": "or", "AND": "and", "(": "(", ")": ")"}
    python = []
    for token in tokens:
        if python and python[-1] == "WITH":
            # Skips the exception's name: an exception only adds permissions.
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
        licence = package["license"] or "none stated"
        print(f"{package['name']:<32}{package['version']:<24}{licence}")
        if not (package["license"] and allowed_by(licence, allow)):
            refused.append(f"{package['name']} {package['version']}: {licence}")
    if refused:
        sys.exit("licences: deny.toml allows none of these\n  " + "\n  ".join(refused))


if __name__ == "__main__":
    main()
