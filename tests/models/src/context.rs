//! Of what a layer finds out about a request, what a store of limits asks for.

use std::sync::Arc;

#[path = "../../../src/context/limits.rs"]
mod limits;

pub use self::limits::Limits;

#[derive(Clone, Debug)]
pub struct Client;

impl Client {
    pub(crate) fn shared_id(&self) -> Arc<str> {
        "client".into()
    }

    pub fn limited_to(&self) -> Limits {
        Limits::NONE
    }
}
