use std::fmt::Write as _;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::azure::operation::{self, Call};

/// Paths: what is read does not depend on how it is encoded, and what is to be taken out or put in leads to the same call.
pub(super) fn check(data: &[u8]) {
    let Ok(path) = str::from_utf8(data) else { return };
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let Ok(call) = operation::parse(&method, path) else { continue };
        everybody_reads_it_alike(path);
        assert_eq!(
            operation::parse(&method, &toggled_slash(path)).map(|call| without_places(&call)),
            Ok(without_places(&call))
        );
        encoded(&method, path, &call);
        with_deployment(&method, path, &call);
    }
}

fn everybody_reads_it_alike(path: &str) {
    let below = path.strip_prefix('/').expect("a path that leads somewhere");
    for segment in below.strip_suffix('/').unwrap_or(below).split('/') {
        let decoded = percent_decode_str(segment).decode_utf8().expect("UTF-8");
        let is_plain = !matches!(&*decoded, "" | "." | "..") && !decoded.contains(['/', '\\', '\0', '\r', '\n', '\t']);
        assert!(is_plain, "{path:?} is one path to some and another to others");
    }
}

fn toggled_slash(path: &str) -> String {
    path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned)
}

/// Everything that a call says but where it stands.
type Said =
    (operation::Surface, operation::Operation, Option<String>, Vec<String>, operation::ModelPlace, operation::Repeat);

fn without_places(call: &Call) -> Said {
    let ids = call.object_ids().map(str::to_owned).collect();
    (call.surface(), call.operation(), call.deployment().map(str::to_owned), ids, call.model_place(), call.repeat())
}

fn encoded(method: &Method, path: &str, call: &Call) {
    // The first segment is compared as it stands.
    let at = path[1..].find('/').map_or(path.len(), |at| at + 2);
    let (first, rest) = path.split_at(at);
    let (body, slash) = rest.strip_suffix('/').map_or((rest, ""), |body| (body, "/"));
    let segments = body.split('/').map(|segment| {
        percent_decode_str(segment).fold(String::new(), |mut encoded, byte| {
            let _ = write!(encoded, "%{byte:02X}");
            encoded
        })
    });
    let encoded = [first, &segments.collect::<Vec<_>>().join("/"), slash].concat();
    let said = operation::parse(method, &encoded).map(|call| without_places(&call));
    assert_eq!(said, Ok(without_places(call)), "{encoded}");
}

fn with_deployment(method: &Method, path: &str, call: &Call) {
    if let (Some(name), Some(span)) = (call.deployment(), call.deployment_span()) {
        assert_eq!(percent_decode_str(&path[span]).decode_utf8().as_deref(), Ok(name));
    }
    if let Some(surplus) = call.surplus_span() {
        let left = [&path[..surplus.start], path.get(surplus.end..).unwrap_or_default()].concat();
        // Of a path that ends with the deployment nothing is left.
        if let Ok(without) = operation::parse(method, &left) {
            assert_eq!((without.deployment(), without.operation()), (None, call.operation()), "{left}");
            assert!(without.object_ids().eq(call.object_ids()), "{left}");
        }
    }
    if let Some(gap) = call.deployment_gap() {
        let with = [&path[..gap], "deployments/put-in/", &path[gap..]].concat();
        let with = operation::parse(method, &with).expect("a path with a deployment");
        assert_eq!((with.deployment(), with.operation()), (Some("put-in"), call.operation()), "{path}");
    }
}
