//! `scripts/check_layers.py` on small made-up trees: it finds a breach of each kind, and nothing else.

use std::fs;
use std::process::Command;

use crate::common::folder;

const LIST: (&str, &str) = ("src/lib.rs", "pub mod ground;\npub mod middle;\n\npub mod top;\n");

/// What the script says of a tree of [`LIST`] and `files`.
fn breaches(name: &str, files: &[(&str, &str)]) -> Vec<String> {
    let root = folder(name);
    for (path, text) in [&[LIST], files].concat() {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    // It looks at all files where there is no git.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/check_layers.py");
    let output = Command::new("python3").arg(script).arg(&root).output().expect("Python starts");
    let said: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    assert_eq!(output.status.success(), said.is_empty(), "{said:?}");
    said
}

#[test]
fn imports_of_modules_above_are_fine() {
    let found = breaches(
        "fine",
        &[
            (
                "src/ground.rs",
                "// use crate::top::Roof;\npub struct Floor;\npub const WORDS: &str = \"crate::top::Roof\";\n",
            ),
            // The parts of a folder and its mod.rs use each other.
            (
                "src/middle/mod.rs",
                "mod wall;\npub use wall::Wall;\npub struct Brick;\npub fn build() -> Wall { wall::new() }\n",
            ),
            ("src/middle/wall.rs", "use super::Brick;\nuse crate::ground::Floor;\npub struct Wall(Brick, Floor);\n"),
            ("src/top.rs", "use crate::{ground::Floor, middle::{self, Wall as Support}};\n"),
            // Tests may import anything.
            (
                "src/middle/door.rs",
                "#[cfg(test)]\nmod tests {\n    use crate::top::Roof;\n}\n#[cfg(test)]\nmod more;\n",
            ),
            ("src/middle/door/more.rs", "use crate::top::Roof;\n"),
            ("src/main.rs", "use coreloss::top::Roof;\n"),
        ],
    );
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn imports_against_the_order_are_found() {
    let found = breaches(
        "order",
        &[
            ("src/ground.rs", "use std::fs;\n\nuse crate::{\n    top::Roof,\n};\n"),
            ("src/middle/mod.rs", "mod wall;\nmod door;\n"),
            ("src/middle/wall.rs", "use super::super::top::Roof;\n"),
            ("src/middle/door.rs", "use crate::top;\n\nfn open() {\n    top::roof();\n}\n"),
            ("src/middle/window.rs", "fn open() {\n    crate::top::inner::roof();\n}\n"),
            ("src/top/mod.rs", "mod inner;\npub use inner::Roof;\npub fn roof() {}\n"),
            ("src/top/inner.rs", "pub struct Roof;\npub fn roof() {}\n"),
        ],
    );
    let expected = [
        "src/ground.rs:3: imports top::inner, which src/lib.rs lists below ground",
        "src/middle/door.rs:4: imports top, which src/lib.rs lists below middle",
        "src/middle/wall.rs:1: imports top::inner, which src/lib.rs lists below middle",
        "src/middle/window.rs:2: imports top::inner, which src/lib.rs lists below middle",
    ];
    assert_eq!(found, expected);
}

#[test]
fn circles_are_found_through_re_exports() {
    let found = breaches(
        "circle",
        &[
            ("src/middle/mod.rs", "mod wall;\nmod door;\nmod lock;\npub use wall::Wall;\npub use lock::Lock;\n"),
            ("src/middle/wall.rs", "use super::door::Door;\npub struct Wall(Door);\n"),
            ("src/middle/door.rs", "use super::Lock;\npub struct Door(Lock);\n"),
            // A path inside the code is an import, too.
            ("src/middle/lock.rs", "pub struct Lock;\npub fn is_open(wall: super::Wall) -> bool { true }\n"),
        ],
    );
    assert_eq!(found, ["src/middle/door.rs:1: a circle of imports: middle::door, middle::lock, middle::wall"]);
}

#[test]
fn crates_are_named_in_their_modules_only() {
    let text = "use mpi::traits::Root;\nfn f() { crate::mpi::g() }\n// mpi::x\n";
    let found = breaches("crates", &[("src/comm/session.rs", text), ("src/ground.rs", text)]);
    assert_eq!(found, ["src/ground.rs:1: names the crate mpi; only comm may"]);
}

#[test]
fn long_files_registries_and_folders_of_a_machine_are_found() {
    let (long, registry) = ("\n".repeat(501), ["https://pypi", "org"].join("."));
    let home = ["", "root", ""].join("/");
    let readme = format!("{registry}\n/usr/bin\n{home}coreloss\n");
    let found = breaches("text", &[("scripts/long.sh", &long), ("README.md", &readme), ("table.csv", &long)]);
    let registry = registry.trim_start_matches("https://");
    let expected = [
        format!("README.md:1: names a registry or one machine's folder: {registry}"),
        format!("README.md:3: names a registry or one machine's folder: {home}"),
        "scripts/long.sh:500: has 501 lines; split it by concept".to_owned(),
    ];
    assert_eq!(found, expected);
}
