#!/usr/bin/env python3
"""Checks rules about the source tree that the compiler does not know. Prints each breach as FILE:LINE and exits with 1.

    scripts/check_layers.py [FOLDER]     checks this checkout, or another one

1. A module imports only modules above it in the list of src/lib.rs.
2. The files of a module do not import each other in a circle.
3. Only the modules in CRATES name the crates there.
4. A file has 500 lines at most.
5. No file names a package registry or the folders of one machine.

An import is a path to a name in another file, in a `use` or inside the code. It leads to the file that defines the
name: re-exports are followed. What a mod.rs takes from the files of its own folder is no import, so they may take from
it what they share. Tests, which is all that `#[cfg(test)]` marks, may import anything.
"""

import re
import subprocess
import sys
from pathlib import Path

# Which modules of src may name a crate.
CRATES = {
    "mpi": ["comm"],
    "hdf5": ["archive", "output"],
    "hdf5_sys": ["archive", "output"],
    "serde_yaml": ["config"],
    "tch": ["gpu", "model", "train", "pca", "context", "bench"],
}
MAX_LINES = 500
# Brackets keep these patterns from matching themselves.
FORBIDDEN = re.compile(
    r"pypi[.]org|pythonhosted[.]org|crates[.]io|anaconda[.]org|download[.]pytorch[.]org|pypi[.]nvidia[.]com"
    r"|(?<![\w./-])(/root[/]|/home[/][a-z]|/work[/](main|shared|[.]library)|/tmp[/]wt?[/])",
    re.IGNORECASE,
)

NOT_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'""", re.DOTALL)


def code(text):
    """`text` without comments and literals; every line keeps its number."""
    return NOT_CODE.sub(lambda found: "\n" * found[0].count("\n") or " ", text)


def line_of(text, place):
    return text.count("\n", 0, place) + 1


def blank(text, start, end):
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def without_tests(text):
    """`text` without items marked `#[cfg(test)]`, and the names of modules so marked that have files of their own."""
    modules = set()
    while mark := re.search(r"#\[cfg\(test\)\]", text):
        end = re.compile(r"[;{]").search(text, mark.end()).end()
        if declared := re.search(r"\bmod\s+(\w+)\s*;$", text[mark.end() : end]):
            modules.add(declared[1])
        depth = text[end - 1] == "{"
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = blank(text, mark.start(), end)
    return text, modules


def leaves(tree):
    """The path and the new name of each leaf of a `use` tree: `a::{self, b as c}` gives (a, a) and (a::b, c)."""
    prefix, brace, rest = tree.partition("{")
    if not brace:
        path, _, name = (part.strip() for part in tree.partition(" as "))
        path = path.removesuffix("::self")
        return [(path, name or path.split("::")[-1])]
    parts, depth = [""], 0
    for char in rest[: rest.rindex("}")]:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [leaf for part in parts if part.strip() for leaf in leaves(prefix.strip() + part.strip())]


class Module:
    """A file: its path as a module, its code without tests, and the paths to which its `use` items give names."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self.code, self.test_modules = without_tests(code(file.read_text()))
        # By name: the path, the line, and whether others may use the name too.
        self.names, self.body = {}, self.code
        for use in re.finditer(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s([^;]+);", self.code, re.MULTILINE):
            for target, name in leaves(" ".join(use[2].split())):
                self.names[name] = (target, line_of(self.code, use.start(2)), bool(use[1]))
            self.body = blank(self.body, use.start(), use.end())


class Tree:
    """The modules of src, by path; lib.rs is () and main.rs is ("main",)."""

    def __init__(self, src):
        self.modules = {}
        for file in sorted(src.rglob("*.rs")):
            path = file.relative_to(src).with_suffix("").parts
            path = path[:-1] if path[-1] in ("mod", "lib") else path
            self.modules[path] = Module(file, path)
        tests = [module.path + (name,) for module in self.modules.values() for name in module.test_modules]
        for path in list(self.modules):
            if any(path[: len(test)] == test for test in tests):
                del self.modules[path]

    def resolve(self, at, path, seen=()):
        """The module that defines what `path` in the module `at` names; None for a module, or another crate's name."""
        first, *rest = path.split("::")
        if first in ("crate", "coreloss"):
            place = ()
        elif first == "self":
            place = at
        elif first == "super":
            place = at[:-1]
            while rest and rest[0] == "super":
                place, rest = place[:-1], rest[1:]
        else:
            place, rest = at, [first, *rest]
        while rest and place + (rest[0],) in self.modules:
            place, rest = place + (rest[0],), rest[1:]
        if not rest or place not in self.modules:
            return None
        name = self.modules[place].names.get(rest[0])
        if name and (place, rest[0]) not in seen:
            return self.resolve(place, "::".join([name[0], *rest[1:]]), (*seen, (place, rest[0])))
        is_local = rest[0] == first and place == at
        return None if is_local else self.modules[place]

    def imports(self, module):
        """The other modules whose names `module` uses, and the first line that does so."""
        found = []
        for name, (path, line, is_reexport) in module.names.items():
            # A trait may be used without being named.
            if not is_reexport or re.search(rf"\b{name}\b", module.body):
                found.append((path, line))
        for path in re.finditer(r"(?<![\w:])[a-z_]\w*(::\w+)+", module.body):
            found.append((path[0], line_of(module.body, path.start())))
        lines = {}
        for path, line in found:
            other = self.resolve(module.path, path)
            if other and other.path[: len(module.path)] != module.path:
                lines[other] = min(line, lines.get(other, line))
        return lines


def check_imports(src):
    tree = Tree(src)
    order = re.findall(r"^(?:pub )?mod (\w+);", tree.modules[()].code, re.MULTILINE)
    imports = {module: tree.imports(module) for module in tree.modules.values()}
    for module, lines in imports.items():
        room = module.path[:1]
        if not room or room[0] not in order:
            continue
        for other, line in lines.items():
            if other.path and order.index(other.path[0]) > order.index(room[0]):
                yield module.file, line, f"imports {'::'.join(other.path)}, which src/lib.rs lists below {room[0]}"
    for circle in circles(imports):
        start = min(circle, key=lambda module: module.path)
        names = ", ".join(sorted("::".join(module.path) for module in circle))
        line = min(line for other, line in imports[start].items() if other in circle)
        yield start.file, line, f"a circle of imports: {names}"


def circles(imports):
    """The sets of modules that reach each other."""

    def reached(start):
        found, ahead = set(), [start]
        while ahead:
            new = set(imports[ahead.pop()]) - found
            found |= new
            ahead.extend(new)
        return found

    reach = {module: reached(module) for module in imports}
    return {frozenset(b for b in reach[a] if a in reach[b]) for a in imports if a in reach[a]}


def check_crates(src):
    for crate, places in CRATES.items():
        named = re.compile(rf"(?<![\w:])(::)?{crate}::|\b(use|crate)\s+(::)?{crate}\s*(;|as\s)")
        for file in sorted(src.rglob("*.rs")):
            path = file.relative_to(src).with_suffix("").as_posix() + "/"
            if not any(path.startswith(place + "/") for place in places):
                for found in named.finditer(text := code(file.read_text())):
                    yield file, line_of(text, found.start()), f"names the crate {crate}; only {', '.join(places)} may"


def check_text(root):
    for file in tracked(root):
        try:
            text = file.read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # A picture, or a file that is removed and still in git's index.
        lines = text.count("\n")
        if file.suffix in (".rs", ".sh", ".py") and lines > MAX_LINES:
            yield file, MAX_LINES, f"has {lines} lines; split it by concept"
        # Cargo.lock must say where its crates come from.
        if file.name != "Cargo.lock":
            for found in FORBIDDEN.finditer(text):
                yield file, line_of(text, found.start()), f"names a registry or one machine's folder: {found[0]}"


def tracked(root):
    """The files that git tracks or would track, or all files where there is no git."""
    if (root / ".git").exists():
        names = ["git", "ls-files", "-co", "--exclude-standard", "--deduplicate"]
        names = subprocess.run(names, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
        return [root / name for name in names]
    ignored = {".git", "target", "out", ".venv", ".venv-test"}
    files = (file for file in root.rglob("*") if file.is_file())
    return sorted(file for file in files if file.relative_to(root).parts[0] not in ignored)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    breaches = sorted([*check_imports(root / "src"), *check_crates(root / "src"), *check_text(root)])
    for file, line, what in breaches:
        print(f"{file.relative_to(root)}:{line}: {what}", file=sys.stderr)
    sys.exit(bool(breaches))


if __name__ == "__main__":
    main()
