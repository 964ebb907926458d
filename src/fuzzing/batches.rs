use super::{Tree, choppings, names};
use crate::azure::batch_file::{self, BatchScan};
use crate::azure::further_names;
use crate::azure::request_body::parts;

const BOUNDARY: &str = "b";

/// Files of batches, in a form with the boundary `b` or as the file alone: the names of their lines, against trees and in pieces.
pub(super) fn check(data: &[u8]) {
    let _ = batch_file::find(BOUNDARY, data);
    if memchr::memmem::find(data, b"\r\n--b").is_some() || data.starts_with(b"--b") {
        return;
    }
    let purpose = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n";
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    form(&[purpose.as_bytes(), file.as_bytes(), data, b"\r\n--b--\r\n"].concat());
}

fn form(form: &[u8]) {
    let Ok(found) = batch_file::find(BOUNDARY, form) else { return };
    let Ok(scan) = BatchScan::of(BOUNDARY, form) else { return };
    if !scan.is_batch() {
        return;
    }
    let mut expected = Vec::new();
    for part in parts(BOUNDARY, form).expect("a form") {
        if part.head.contains("name=\"file\"") || part.head.contains("name=file") {
            let Some(names) = of_lines(part.value) else { return };
            names.into_iter().for_each(|name| {
                if !expected.contains(&name) {
                    expected.push(name)
                }
            });
        }
    }
    assert_eq!(found.iter().map(|named| &named.name).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    for named in &found {
        assert_eq!(Tree::read_tolerantly(&form[named.span.clone()]), Some(Tree::Text(named.name.clone())));
    }
    in_pieces(form, &expected);
}

/// Of what everybody takes for JSON.
fn of_lines(file: &[u8]) -> Option<Vec<String>> {
    let mut ways = further_names::line_ways();
    ways.retain(|way| way != "url");
    let mut all = Vec::new();
    for line in file.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let tree = Tree::read(line)?;
        all.extend(names::by_tree(&tree, &ways).into_iter().map(str::to_owned));
    }
    Some(all)
}

fn in_pieces(form: &[u8], expected: &[String]) {
    for pieces in choppings(form) {
        let (mut scan, mut names) = (BatchScan::new(BOUNDARY), Vec::new());
        for piece in pieces {
            scan.feed(piece).expect("what is read whole is read in pieces");
            names.extend(scan.take_names());
        }
        if !scan.is_batch() {
            return;
        }
        let mut distinct: Vec<String> = Vec::new();
        names.into_iter().for_each(|named| {
            if !distinct.contains(&named.name) {
                distinct.push(named.name)
            }
        });
        assert_eq!(distinct, expected, "pieces change what is read");
    }
}
