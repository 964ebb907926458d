use http::{HeaderMap, HeaderName, HeaderValue};

use crate::context::BasePath;
use crate::forward::make_relative;
use crate::headers::drop_host;
use crate::pool::{Backend, Deployment, Pool};

const HOST: &str = "contoso.example.com";
const NAMES: [&str; 5] = ["location", "content-location", "operation-location", "link", "x-next-url"];

/// Headers that say where to look next: a client that follows one stays at the gateway, and learns no host.
pub(super) fn check(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    for endpoint in [format!("https://{HOST}"), format!("https://{HOST}/prefix")] {
        let backend = Backend::new("a", endpoint).add_deployment(Deployment::new("m"));
        let pool = Pool::builder().add_backend(backend).build().expect("a pool");
        let target = pool.targets("m").first().cloned().expect("a target");
        for base_path in [None, Some(BasePath::new("/base").expect("a path"))] {
            let mut headers: HeaderMap =
                NAMES.iter().map(|name| (HeaderName::from_static(name), value.clone())).collect();
            make_relative(&mut headers, &target, base_path.as_ref());
            drop_host(&mut headers, HOST);
            for (name, value) in &headers {
                let value = value.to_str().expect("what is kept is a text");
                if name == "link" {
                    value.split('<').skip(1).for_each(stays)
                } else {
                    stays(value)
                }
                assert!(!value.to_ascii_lowercase().contains(HOST), "{name}: {value}");
            }
        }
    }
}

/// As browsers read it: tabs are passed over, and a backslash is a slash.
fn stays(url: &str) {
    let url: String = url.chars().filter(|c| *c != '\t').map(|c| if c == '\\' { '/' } else { c }).collect();
    let url = url.trim_start();
    assert!(url.starts_with('/') && !url.starts_with("//"), "leads elsewhere: {url:?}");
}
