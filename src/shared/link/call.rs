//! One question to Redis.

use redis::aio::ConnectionLike;
use redis::{FromRedisValue, RedisError, Script};

/// A script with what it is given.
#[derive(Clone)]
pub(in crate::shared) struct Call {
    script: &'static Lazy,
    keys: Vec<String>,
    args: Vec<String>,
}

/// A script whose digest is computed once.
pub(in crate::shared) type Lazy = std::sync::LazyLock<Script>;

impl Call {
    pub(in crate::shared) fn new(script: &'static Lazy, key: impl Into<String>) -> Self {
        Self { script, keys: vec![key.into()], args: Vec::new() }
    }

    /// Another key, which has to lie on the same node of a cluster.
    pub(in crate::shared) fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike")]
    pub(in crate::shared) fn arg(mut self, arg: impl ToString) -> Self {
        self.args.push(arg.to_string());
        self
    }

    pub(super) async fn run<T: FromRedisValue>(&self, connection: &mut impl ConnectionLike) -> Result<T, RedisError> {
        let mut invocation = self.script.prepare_invoke();
        for key in &self.keys {
            invocation.key(key);
        }
        for arg in &self.args {
            invocation.arg(arg);
        }
        invocation.invoke_async(connection).await
    }
}
