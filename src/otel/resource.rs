use std::collections::BTreeMap;

use bytes::Bytes;

use super::SCHEMA;
use super::proto::{Message, Value};

/// The one who tells it all, as it stands around everything that is sent.
#[derive(Debug)]
pub(super) struct Resource {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Resource {
    /// A later attribute of the same name replaces an earlier one.
    pub(super) fn new(attributes: impl IntoIterator<Item = (String, String)>) -> Self {
        let attributes: BTreeMap<_, _> = attributes.into_iter().collect();
        let mut resource = Message::default();
        resource.message(1, |resource| {
            for (key, value) in &attributes {
                resource.attribute(1, key, Value::Text(value));
            }
        });
        let mut scope = Message::default();
        scope.message(1, |scope| {
            scope.text(1, env!("CARGO_PKG_NAME"));
            scope.text(2, env!("CARGO_PKG_VERSION"));
        });
        Self { resource: resource.into_bytes(), scope: scope.into_bytes() }
    }

    /// The request of any signal: one resource with one scope, and in it these.
    pub(super) fn around(&self, fields: &[u8]) -> Bytes {
        let mut request = Message::with_capacity(fields.len() + self.resource.len() + self.scope.len() + 256);
        request.message(1, |of_resource| {
            of_resource.written(&self.resource);
            of_resource.message(2, |of_scope| {
                of_scope.written(&self.scope);
                of_scope.written(fields);
                of_scope.text(3, SCHEMA);
            });
            of_resource.text(3, SCHEMA);
        });
        request.into_bytes().into()
    }
}
