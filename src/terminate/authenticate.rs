use std::future::{Future, Ready, ready};

use super::Presented;
use crate::context::Client;

/// Who is it?
///
/// Asked with one credential of a request at a time, in the order of [`Form`](super::Form), until one identifies a client; the
/// next is asked about when the future for the one before is done. Nothing else of the request is shown to it.
///
/// A future may take its time, to fetch the keys of an identity provider for instance, and is dropped with the request. It
/// copies what it needs of the credential. Closures `Fn(&Presented) -> Option<Client>` are accepted.
pub trait Authenticate: Send + Sync {
    /// What finds out. `None`: the credential identifies nobody.
    type Future: Future<Output = Option<Client>> + Send;

    /// Begins to find out whose credential this is.
    fn authenticate(&self, presented: &Presented) -> Self::Future;
}

impl<F> Authenticate for F
where
    F: Fn(&Presented) -> Option<Client> + Send + Sync,
{
    type Future = Ready<Option<Client>>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        ready(self(presented))
    }
}
