use redis::Script;

use super::link::{Call, Lazy, Link};
use crate::directory::ObjectKey;
use crate::meter::CountOnce;
use crate::pool::BoxFuture;

static CLAIM: Lazy = Lazy::new(|| Script::new("return redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[1]) and 1 or 0"));

/// As long as an answer can be read again, and usage is kept.
const SECONDS: u64 = 35 * 24 * 60 * 60;

/// Record of the objects that some replica has counted. Made by [`Shared::count_once`](super::Shared::count_once).
///
/// While Redis is away each replica counts for itself.
#[derive(Clone, Debug)]
pub struct SharedOnce(Link);

impl SharedOnce {
    pub(super) const fn new(link: Link) -> Self {
        Self(link)
    }
}

impl CountOnce for SharedOnce {
    fn is_first(&self, object: ObjectKey) -> BoxFuture<bool> {
        let link = self.0.clone();
        Box::pin(async move {
            let call = Call::new(&CLAIM, object.named("aoai:counted:")).arg(SECONDS);
            link.tell::<u8>(call).await != Some(0)
        })
    }
}
