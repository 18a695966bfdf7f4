//! Rules of the house that the compiler can't see: who may import whom, how a file begins, how long it may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms of `src/` each room may import. `*` is every room; a leading `!` takes one away from `*`.
const IMPORTS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("topology", &["event"]),
    ("runtime", &["task", "shutdown", "clock", "telemetry"]),
    ("order", &["event"]),
    ("store", &["event", "order", "clock", "crypto", "task"]),
    ("outbox", &["event", "store", "runtime", "task", "clock", "telemetry"]),
    (
        "stages",
        &["event", "order", "topology", "runtime", "store", "outbox", "crypto", "task", "clock", "telemetry"],
    ),
    ("admin", &["event", "topology", "runtime", "store", "crypto", "clock", "task", "telemetry"]),
    ("http", &["event", "order", "store", "admin", "crypto", "task", "clock", "telemetry"]),
    ("embedded", &["*", "!cli", "!config"]),
    ("config", &["*", "!cli", "!embedded"]),
    ("cli", &["*"]),
    ("main", &["*"]),
    ("lib", &[]),
    ("task", &[]),
    ("clock", &[]),
    ("crypto", &[]),
    ("telemetry", &[]),
    ("shutdown", &["task"]),
];

/// A file that is longer has a shape to be split by.
const MOST_LINES: usize = 450;

/// Files that may hold unsafe code; each begins with the reasons.
const UNSAFE: &[&str] =
    &["embedded/mock_settings.rs", "runtime/consumer/batch_queue.rs", "runtime/consumer/commit_queue.rs"];

struct Source {
    /// Path below the repository.
    path: PathBuf,
    text: String,
}

fn sources(below: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(below)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the file can be read");
                let path = path.strip_prefix(root).expect("it lies below the root").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "{below} holds no source file");
    found
}

/// The room a file belongs to: the first folder or file name below `src/`.
fn room(source: &Source) -> String {
    let first = source.path.iter().nth(1).expect("a file lies below src");
    Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned()
}

/// Rooms that a file names: `crate::room` and, in a group, `crate::{room::…, room}`.
fn imported_rooms(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if rest.starts_with('{') {
            let (mut depth, mut name) = (0, String::new());
            for letter in rest.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 1 && (letter.is_alphanumeric() || letter == '_') {
                    name.push(letter);
                } else if !name.is_empty() {
                    rooms.push(std::mem::take(&mut name));
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            rooms
                .push(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let known = |name: &str| IMPORTS.iter().any(|(room, _)| *room == name);
    let mut offences = Vec::new();
    for source in sources("src") {
        let room = room(&source);
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
            offences.push(format!("{}: room {room} is not in the table", source.path.display()));
            continue;
        };
        for other in imported_rooms(&source.text) {
            let allowed_here = other == room
                || !known(&other)
                || allowed.contains(&other.as_str())
                || allowed.contains(&"*") && !allowed.contains(&format!("!{other}").as_str());
            if !allowed_here {
                offences.push(format!("{}: {room} may not import {other}", source.path.display()));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        assert!(source.text.starts_with("//! "), "{} begins without //!", source.path.display());
    }
}

#[test]
fn no_file_is_longer_than_one_reads_in_one_go() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines; split it by shape", source.path.display());
    }
}

#[test]
fn anyhow_stays_in_the_command_line_and_tests() {
    for source in sources("src") {
        let free = matches!(room(&source).as_str(), "cli" | "main");
        assert!(free || !source.text.contains("anyhow"), "{} uses anyhow", source.path.display());
    }
}

#[test]
fn unsafe_code_is_in_the_files_that_may_hold_it() {
    for source in sources("src") {
        let free = UNSAFE.iter().any(|path| source.path.ends_with(path));
        assert!(
            free || !source.text.contains("unsafe_code"),
            "{} allows unsafe code; only {UNSAFE:?} may",
            source.path.display()
        );
    }
}

/// Behind FROM, PostgreSQL puts each column aside before the first row is seen; see `src/store/batch.rs`.
#[test]
fn columns_of_rows_that_are_written_are_unnested_side_by_side() {
    for source in sources("src/store") {
        let behind_from = source.text.contains("SELECT * FROM UNNEST(");
        assert!(!behind_from, "{}: write SELECT UNNEST(…), UNNEST(…)", source.path.display());
    }
}

#[test]
fn nothing_is_left_for_later_in_the_source() {
    // Written in two halves, so that this file doesn't hold them.
    let marks = [("TO", "DO"), ("FIX", "ME"), ("to", "do!("), ("unimple", "mented!(")]
        .map(|(a, b)| format!("{a}{b}"));
    for source in sources("src").into_iter().chain(sources("tests")) {
        for mark in &marks {
            assert!(!source.text.contains(mark.as_str()), "{} holds {mark}", source.path.display());
        }
    }
}

#[test]
fn the_import_table_is_the_one_in_the_architecture_page() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md");
    for (room, allowed) in IMPORTS.iter().filter(|(room, _)| !matches!(*room, "lib" | "main")) {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{room}` |")));
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {room}"));
        for other in *allowed {
            let named = other.trim_start_matches('!');
            assert!(
                *other == "*" || row.contains(&format!("`{named}`")),
                "the row of {room} doesn't name {named}: {row}"
            );
        }
    }
}
