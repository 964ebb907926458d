use std::future::{Future, Ready, ready};

use super::Presented;
use crate::context::Client;

/// Tells a client by a credential.
///
/// Asked once for each form in which a request presents one, until a client is found. A closure
/// `Fn(&Presented) -> Option<Client>` is one that answers at once.
pub trait Authenticate: Clone {
    /// Resolves to the client, or `None` for a credential that identifies nobody.
    type Future: Future<Output = Option<Client>>;

    /// Looks at one credential. Dropping the future must leave nothing behind.
    fn authenticate(&self, presented: &Presented) -> Self::Future;
}

impl<F> Authenticate for F
where
    F: Fn(&Presented) -> Option<Client> + Clone,
{
    type Future = Ready<Option<Client>>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        ready(self(presented))
    }
}
