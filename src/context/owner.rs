use std::sync::Arc;

/// On a request: the client to whom belongs what its answer makes, where clients reach only what they made. Put by ownership, used by
/// whoever remembers objects.
#[derive(Clone, Debug)]
pub(crate) struct Owner(pub(crate) Arc<str>);
