use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Folder of what the fuzzers begin with and have found. A published package is without it.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn files(name: &str) -> Vec<Vec<u8>> {
    let folder = corpus().join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} begins with something");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_file_of_the_corpora_passes_its_check() {
    if corpus().exists() {
        for (name, check) in CHECKS {
            files(name).iter().for_each(|data| check(data));
        }
    }
}

/// One change at a time, so that no fuzzer is needed to see what a small slip does.
#[test]
fn a_changed_file_passes_too() {
    const PUT_IN: [&[u8]; 8] = [b"\"", b"\\", b"\r", b"\n", b"{", b",", b"\xff", b"\0"];
    const MOST: usize = 300;
    if !corpus().exists() {
        return;
    }
    for (name, check) in CHECKS {
        for data in files(name).iter().filter(|data| data.len() <= 4 * MOST) {
            let step = data.len() / MOST + 1;
            for at in (0..data.len()).step_by(step) {
                let (before, after) = data.split_at(at);
                check(before);
                check(&[before, &after[1..]].concat());
                check(&[before, PUT_IN[at / step % PUT_IN.len()], after].concat());
            }
        }
    }
}

#[test]
fn pieces_are_the_whole() {
    let data: Vec<u8> = (0..200).collect();
    assert_eq!(choppings(&data).count(), 4);
    choppings(&data).for_each(|pieces| assert_eq!(pieces.concat(), data));
    assert!(choppings(b"").all(|pieces| pieces.concat().is_empty()));
}
